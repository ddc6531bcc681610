#include "train/indexer_training.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

namespace deepseek::train {
namespace {

using models::Decoder;
using models::IndexerView;

kernels::IndexerLossInputs inputs_of(const Decoder& decoder, const IndexerView& view) {
  const nn::LightningIndexer& indexer = *decoder.layers()[view.layer].indexer;
  const auto rows = indexer.project(view.x, view.positions, decoder.indexer_frequencies(indexer));
  return {rows.q.unsqueeze(0), rows.k.unsqueeze(0), rows.weights.unsqueeze(0), view.q, view.k, view.keys};
}

}  // namespace

base::Result<IndexerStage> indexer_stage_named(const std::string& name) {
  for (const auto stage : {IndexerStage::kWarmup, IndexerStage::kSparse}) {
    if (name == name_of(stage)) return stage;
  }
  return base::refuse("--dsa is '{}'; use warmup (the indexer learns the attention of the frozen model) or, after it, sparse", name);
}

const char* name_of(IndexerStage stage) { return stage == IndexerStage::kWarmup ? "warmup" : stage == IndexerStage::kSparse ? "sparse" : ""; }

int64_t indexer_count(const Decoder& decoder) {
  return std::count_if(decoder.layers().begin(), decoder.layers().end(), [](const auto& layer) { return layer.indexer.has_value(); });
}

models::IndexerWatch indexer_training_watch(const Decoder& decoder, double normalizer, double& total) {
  return [&decoder, normalizer, &total](const IndexerView& view) {
    const at::AutoGradMode with_grad(true);
    const at::Tensor loss = nn::indexer_loss(inputs_of(decoder, view), decoder.config().attention_scale, normalizer);
    total += loss.item<double>();
    torch::autograd::backward({loss}, {});
  };
}

std::vector<ExampleLoss> indexer_losses(const Decoder& decoder, std::span<const models::TokenizedExample> examples, int64_t micro_batch_tokens, int64_t recall_of,
                                        const std::function<bool(size_t)>& progress) {
  at::NoGradGuard no_grad;
  Batch all;
  for (const auto& example : examples) all.push_back(&example);
  std::vector<ExampleLoss> out(examples.size());
  const auto layers = static_cast<double>(indexer_count(decoder));
  size_t done = 0;
  for (const auto& chosen : micro_batches(all, micro_batch_tokens)) {
    const MicroBatch micro = pack(all, chosen);
    const models::IndexerWatch watch = [&](const IndexerView& view) {
      const auto r = kernels::indexer_loss(inputs_of(decoder, view), {.scale = decoder.config().attention_scale, .recall_of = recall_of, .gradients = false});
      ExampleLoss& example = out[micro.counted[view.sequence].first];
      example.sum += r.loss.sum(at::kDouble).item<double>() / layers;
      const int64_t n = view.x.size(0);
      if (n <= recall_of) return;
      example.kept += r.kept.narrow(1, recall_of, n - recall_of).sum(at::kDouble).item<double>();
      example.most += r.most.narrow(1, recall_of, n - recall_of).sum(at::kDouble).item<double>();
    };
    (void)decoder.hidden(micro.packed, false, &watch);
    for (const size_t index : chosen) out[index].counted = static_cast<int64_t>(examples[index].tokens.size());
    done += chosen.size();
    if (progress && !progress(done)) return {};
  }
  return out;
}

}  // namespace deepseek::train
