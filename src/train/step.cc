#include "train/step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <numeric>

#include "kernels/cross_entropy/cross_entropy.h"
#include "models/adapter/adapter.h"
#include "nn/functional.h"

namespace deepseek::train {
namespace {

using models::Decoder;
using models::TokenizedExample;

// Examples of one forward pass, with the rows of the hidden states that predict counted tokens.
struct MicroBatch {
  models::PackedSequences packed;
  at::Tensor rows, targets;  // [n] i64
  std::vector<std::pair<size_t, int64_t>> counted;  // example and its count of rows
};

MicroBatch pack(const Batch& examples, std::span<const size_t> chosen) {
  MicroBatch out;
  std::vector<std::vector<int32_t>> sequences;
  std::vector<int64_t> rows, targets;
  int64_t begin = 0;
  for (const size_t index : chosen) {
    const auto& example = *examples[index];
    int64_t counted = 0;
    for (size_t t = 1; t < example.tokens.size(); ++t) {
      if (example.counts[t] == 0) continue;
      rows.push_back(begin + static_cast<int64_t>(t) - 1);
      targets.push_back(example.tokens[t]);
      ++counted;
    }
    out.counted.emplace_back(index, counted);
    sequences.push_back(example.tokens);
    begin += static_cast<int64_t>(example.tokens.size());
  }
  out.packed = models::pack_sequences(sequences);
  const auto tensor = [](const std::vector<int64_t>& values) {
    at::Tensor made = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
    std::copy(values.begin(), values.end(), made.mutable_data_ptr<int64_t>());
    return made;
  };
  out.rows = tensor(rows);
  out.targets = tensor(targets);
  return out;
}

// Longest first, so that sequences of like length share a pass and their attention runs as one call.
std::vector<std::vector<size_t>> micro_batches(const Batch& examples, int64_t max_tokens) {
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return examples[a]->tokens.size() > examples[b]->tokens.size(); });
  std::vector<std::vector<size_t>> out;
  int64_t used = 0;
  for (const size_t index : order) {
    const auto length = static_cast<int64_t>(examples[index]->tokens.size());
    if (out.empty() || used + length > max_tokens) {
      out.emplace_back();
      used = 0;
    }
    out.back().push_back(index);
    used += length;
  }
  return out;
}

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
  for (const auto& chosen : micro_batches(mine, options.micro_batch_tokens)) {
    const MicroBatch micro = pack(mine, chosen);
    if (micro.rows.numel() == 0) continue;
    set_dropout(decoder, dropout_seed);
    if (dropout_seed != 0) dropout_seed += 104729;
    const auto device = decoder.embedding().device();
    const at::Tensor hidden = at::index_select(decoder.hidden(micro.packed, options.checkpoint), 0, micro.rows.to(device));
    const at::Tensor weights = at::full({micro.rows.numel()}, 1.0, at::TensorOptions().dtype(at::kFloat).device(device));
    const at::Tensor loss = nn::linear_cross_entropy(hidden, decoder.head(), micro.targets.to(device), weights, static_cast<double>(counted),
                                                     decoder.config().final_softcap);
    out.loss += loss.item<double>();
    torch::autograd::backward({loss}, {});
  }
  set_dropout(decoder, 0);
  sum_gradients(optimizer.parameters(), parallel);
  parallel.sum(out.loss);
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

std::vector<at::Tensor> trainable_parameters(Decoder& decoder) {
  std::vector<at::Tensor> out;
  for (auto& [name, tensor] : models::adapter_tensors(decoder)) {
    at::Tensor leaf = tensor;
    leaf.set_requires_grad(true);
    out.push_back(leaf);
  }
  return out;
}

}  // namespace deepseek::train
