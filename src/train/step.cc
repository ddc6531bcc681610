#include "train/step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "kernels/cross_entropy/cross_entropy.h"
#include "models/adapter/adapter.h"
#include "models/adapter/indexer.h"
#include "nn/functional.h"

namespace deepseek::train {
namespace {

using models::Decoder;
using models::TokenizedExample;

void set_dropout(Decoder& decoder, uint64_t seed) {
  uint64_t index = 0;
  for (auto* layer : models::linear_layers(decoder)) {
    ++index;
    if (layer->lora) layer->lora->dropout_seed = seed == 0 ? 0 : (seed + index) * 0x9E3779B97F4A7C15u | 1;
  }
}

// The share of the batch that this process trains on: every size-th example of the batch sorted by length.
Batch share_of(const Batch& batch, const Parallel& parallel) {
  if (parallel.size() == 1) return batch;
  Batch sorted = batch, mine;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->tokens.size() > b->tokens.size(); });
  for (size_t i = 0; i < sorted.size(); ++i) {
    // There and back again, so that no process gets the longer one of every pair.
    const size_t lap = i / static_cast<size_t>(parallel.size()), place = i % static_cast<size_t>(parallel.size());
    const size_t owner = lap % 2 == 0 ? place : static_cast<size_t>(parallel.size()) - 1 - place;
    if (owner == static_cast<size_t>(parallel.rank())) mine.push_back(sorted[i]);
  }
  return mine;
}

void sum_gradients(const std::vector<at::Tensor>& parameters, const Parallel& parallel) {
  if (parallel.size() == 1) return;
  for (const auto& parameter : parameters) {
    if (!parameter.grad().defined()) const_cast<at::Tensor&>(parameter).mutable_grad() = at::zeros_like(parameter.detach());
    at::Tensor gradient = parameter.grad().contiguous();
    parallel.sum({gradient.mutable_data_ptr<float>(), static_cast<size_t>(gradient.numel())});
    parameter.grad().copy_(gradient);
  }
}

}  // namespace

StepResult train_step(Decoder& decoder, AdamW& optimizer, const Batch& batch, double learning_rate, const StepOptions& options,
                      const Parallel& parallel) {
  StepResult out;
  int64_t counted = 0;
  for (const auto* example : batch) {
    counted += example->counted();
    out.tokens += static_cast<int64_t>(example->tokens.size());
  }
  const Batch mine = share_of(batch, parallel);
  uint64_t dropout_seed = options.dropout_seed == 0 ? 0 : options.dropout_seed + static_cast<uint64_t>(parallel.rank()) * 7919;
  const double index_queries = static_cast<double>(out.tokens) * static_cast<double>(indexer_count(decoder));
  const models::IndexerWatch watch = indexer_training_watch(decoder, index_queries, out.indexer_loss);
  for (const auto& chosen : micro_batches(mine, options.micro_batch_tokens)) {
    const MicroBatch micro = pack(mine, chosen);
    if (options.stage == IndexerStage::kWarmup) {
      at::NoGradGuard no_grad;
      (void)decoder.hidden(micro.packed, false, &watch);
      continue;
    }
    if (micro.rows.numel() == 0) continue;
    set_dropout(decoder, dropout_seed);
    if (dropout_seed != 0) dropout_seed += 104729;
    const auto device = decoder.embedding().device();
    const at::Tensor hidden = 
        at::index_select(decoder.hidden(micro.packed, options.checkpoint, options.stage == IndexerStage::kSparse ? &watch : nullptr), 0, micro.rows.to(device));
    const at::Tensor weights = at::full({micro.rows.numel()}, 1.0, at::TensorOptions().dtype(at::kFloat).device(device));
    const at::Tensor loss = nn::linear_cross_entropy(hidden, decoder.head(), micro.targets.to(device), weights, static_cast<double>(counted),
                                                     decoder.config().final_softcap);
    out.loss += loss.item<double>();
    torch::autograd::backward({loss}, {});
  }
  set_dropout(decoder, 0);
  sum_gradients(optimizer.parameters(), parallel);
  parallel.sum(out.loss);
  if (options.stage != IndexerStage::kNone) parallel.sum(out.indexer_loss);
  if (options.stage == IndexerStage::kWarmup) out.loss = out.indexer_loss;
  out.gradient_norm = clip_gradients(optimizer.parameters(), options.max_grad_norm);
  optimizer.step(learning_rate);
  return out;
}

std::vector<ExampleLoss> example_losses(const Decoder& decoder, std::span<const TokenizedExample> examples, int64_t micro_batch_tokens,
                                        const std::function<bool(size_t)>& progress) {
  at::NoGradGuard no_grad;
  Batch all;
  for (const auto& example : examples) all.push_back(&example);
  std::vector<ExampleLoss> out(examples.size());
  size_t done = 0;
  for (const auto& chosen : micro_batches(all, micro_batch_tokens)) {
    const MicroBatch micro = pack(all, chosen);
    const auto device = decoder.embedding().device();
    const at::Tensor hidden = at::index_select(decoder.hidden(micro.packed), 0, micro.rows.to(device));
    const auto result = kernels::linear_cross_entropy(hidden, decoder.head(), micro.targets.to(device), {}, false,
                                                      {.softcap = decoder.config().final_softcap});
    const at::Tensor losses = result.losses.cpu().contiguous();
    const float* value = losses.const_data_ptr<float>();
    for (const auto& [index, counted] : micro.counted) {
      out[index].counted = counted;
      for (int64_t i = 0; i < counted; ++i) out[index].sum += *value++;
    }
    done += chosen.size();
    if (progress && !progress(done)) return {};
  }
  return out;
}

double mean_loss(std::span<const ExampleLoss> losses) {
  double sum = 0;
  int64_t counted = 0;
  for (const auto& loss : losses) {
    sum += loss.sum;
    counted += loss.counted;
  }
  return counted == 0 ? 0.0 : sum / static_cast<double>(counted);
}

models::NamedTensors trained_tensors(const Decoder& decoder) {
  models::NamedTensors all = models::adapter_tensors(decoder);
  for (auto& indexer : models::indexer_tensors(decoder)) all.push_back(std::move(indexer));
  return all;
}

std::vector<at::Tensor> trainable_parameters(Decoder& decoder) {
  std::vector<at::Tensor> out;
  for (auto& [name, tensor] : trained_tensors(decoder)) {
    at::Tensor leaf = tensor;
    leaf.set_requires_grad(true);
    out.push_back(leaf);
  }
  return out;
}

}  // namespace deepseek::train
