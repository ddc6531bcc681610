#include "engine/calibration.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "engine/sampler.h"

namespace deepseek::engine {

base::Result<TokenSequences> own_texts(FusedModel& model, int32_t first, const std::vector<int32_t>& never, int64_t count, int64_t length, uint64_t seed,
                                       const std::function<bool(int64_t done, int64_t total)>& progress) {
  TokenSequences texts(static_cast<size_t>(count), {first});
  std::vector<CachedSequence> states(texts.size());
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < texts.size(); ++i) samplers.emplace_back(SamplingOptions{.seed = seed * 1000003 + i}, std::span<const int32_t>());
  base::Status status;
  const int64_t vocabulary = model.config().vocab_size;
  for (int64_t step = 1; step < length && status; ++step) {
    if (progress && !progress(step, length)) status = base::fail("interrupted");
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < texts.size(); ++i) inputs.push_back({&states[i], std::span(texts[i]).last(1)});
    auto logits = model.forward(inputs);
    if (!logits) status = base::pass(logits);
    for (size_t i = 0; i < texts.size() && status; ++i) {
      const auto row = logits->subspan(i * static_cast<size_t>(vocabulary), static_cast<size_t>(vocabulary));
      for (const int32_t id : never) row[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
      if (auto next = samplers[i].next(row)) texts[i].push_back(*next);
      else status = base::pass(next);
    }
  }
  for (auto& state : states) model.truncate(state, 0);
  if (!status) return base::pass(status);
  return texts;
}

int64_t Calibration::width(FusedModel::Input input) const {
  const auto& c = model_.config();
  return input == FusedModel::Input::kOutput ? c.num_heads * c.head_dim : input == FusedModel::Input::kDown ? c.intermediate_size : c.hidden_size;
}

base::Result<at::Tensor> Calibration::moments(int64_t layer, FusedModel::Input input) {
  if (!moments_.contains({layer, input})) {
    if (auto done = collect(layer); !done) return base::pass(done);
  }
  return moments_.at({layer, input});
}

base::Status Calibration::collect(int64_t first) {
  at::NoGradGuard no_grad;
  using Input = FusedModel::Input;
  moments_.clear();
  const int64_t layers = model_.config().num_layers;
  uint64_t used = 0;
  std::map<Site, at::Tensor> rows;  // of one pass
  for (int64_t layer = first; layer <= layers && (layer == first || used < budget_); ++layer) {
    for (const Input input : layer == layers ? std::vector{Input::kHead} : std::vector{Input::kAttention, Input::kOutput, Input::kFeedForward, Input::kDown}) {
      const int64_t n = width(input);
      moments_[{layer, input}] = at::zeros({n, n}, at::kFloat);
      rows[{layer, input}] = at::empty({FusedModel::kMostTokens, n}, at::kFloat);
      used += static_cast<uint64_t>(n * n + FusedModel::kMostTokens * n) * 4;
    }
  }
  model_.watch([&](int64_t layer, Input input, int64_t row, std::span<const float> values) {
    const auto found = rows.find({layer, input});
    if (found != rows.end()) std::copy(values.begin(), values.end(), found->second.mutable_data_ptr<float>() + row * static_cast<int64_t>(values.size()));
  });
  base::Status status;
  for (const auto& text : texts_) {
    for (size_t at = 0; at < text.size() && status; at += FusedModel::kMostTokens) {
      const auto tokens = std::span(text).subspan(at, std::min<size_t>(FusedModel::kMostTokens, text.size() - at));
      status = stop_requested && stop_requested() ? base::fail("interrupted") : read(tokens);
      for (auto& [site, sum] : moments_) {
        const at::Tensor x = rows.at(site).slice(0, 0, static_cast<int64_t>(tokens.size()));
        if (status) sum.addmm_(x.t(), x);
      }
    }
  }
  model_.watch({});
  return status;
}

base::Status Calibration::read(std::span<const int32_t> tokens) {
  CachedSequence state;
  const SequenceInput input[] = {{&state, tokens}};
  auto done = model_.read(input);
  model_.truncate(state, 0);
  return done;
}

}  // namespace deepseek::engine
