#include "engine/perplexity.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>

#include "kernels/cross_entropy/cross_entropy.h"

namespace deepseek::engine {
namespace {

constexpr int64_t kDefaultWindow = 2048;

struct Sum {
  double loss = 0;
  int64_t tokens = 0;
};

// Sequences of one pass and which of their tokens count: `targets` are positions in the packed tokens.
struct Pass {
  std::vector<std::vector<int32_t>> sequences;
  std::vector<int64_t> targets;
  int64_t tokens = 0;
};

at::Tensor tensor_of(const std::vector<int64_t>& values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

base::Status add_losses(const models::Decoder& decoder, const Pass& pass, Sum& sum) {
  if (pass.targets.empty()) return {};
  try {
    at::NoGradGuard no_grad;
    const auto packed = models::pack_sequences(pass.sequences);
    const at::Tensor hidden = decoder.hidden(packed), positions = tensor_of(pass.targets);
    const at::Tensor rows = at::index_select(hidden, 0, (positions - 1).to(hidden.device()));
    const at::Tensor targets = at::index_select(packed.tokens, 0, positions).to(hidden.device());
    const auto result = kernels::linear_cross_entropy(rows, decoder.head(), targets, at::Tensor(), false, {.softcap = decoder.config().final_softcap});
    sum.loss += result.losses.sum(at::kDouble).item<double>();
    sum.tokens += static_cast<int64_t>(pass.targets.size());
  } catch (const std::bad_alloc&) {
    return base::fail("not enough memory for {} tokens at a time; choose a smaller window", pass.tokens);
  } catch (const std::exception& error) {
    const std::string what = error.what();
    return base::fail("the model failed: {}", what.substr(0, what.find('\n')));
  }
  if (!std::isfinite(sum.loss)) return base::fail("a loss is not a finite number: the model's weights are damaged or its type overflows");
  return {};
}

base::Status check_ids(const std::vector<int32_t>& ids, int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) return base::refuse("token {} is {}, outside the model's vocabulary of {}", i, ids[i], vocabulary);
  }
  return {};
}

base::Result<int64_t> window_of(const models::Decoder& decoder, const EvaluateOptions& options) {
  const int64_t context = decoder.config().max_position_embeddings;
  const int64_t window = options.window == 0 ? std::min(context, kDefaultWindow) : options.window;
  if (window < 2 || window > context) return base::refuse("the window is {} tokens; it must lie between 2 and the model's context of {}", window, context);
  return window;
}

base::Status may_go_on(const EvaluateOptions& options) {
  if (options.stop_requested && options.stop_requested()) return base::fail("the evaluation was interrupted");
  return {};
}

Perplexity mean_of(const Sum& sum) {
  const double mean = sum.loss / static_cast<double>(sum.tokens);
  return {mean, std::exp(mean), sum.tokens};
}

base::Status check_sequence(const ScoredSequence& sequence, size_t index, const models::DecoderConfig& config) {
  const std::string where = fmt::format("sequence {}", index + 1);
  if (sequence.ids.size() != sequence.counted.size()) {
    return base::refuse("{} has {} tokens, but {} marks of what counts", where, sequence.ids.size(), sequence.counted.size());
  }
  if (static_cast<int64_t>(sequence.ids.size()) > config.max_position_embeddings) {
    return base::refuse("{} has {} tokens and the model's context holds {}: shorten it", where, sequence.ids.size(), config.max_position_embeddings);
  }
  if (auto ok = check_ids(sequence.ids, config.vocab_size); !ok) return base::within(where, ok.error());
  return {};
}

void append(Pass& pass, const ScoredSequence& sequence) {
  for (size_t i = 1; i < sequence.ids.size(); ++i) {
    if (sequence.counted[i] != 0) pass.targets.push_back(pass.tokens + static_cast<int64_t>(i));
  }
  pass.sequences.push_back(sequence.ids);
  pass.tokens += static_cast<int64_t>(sequence.ids.size());
}

}  // namespace

base::Result<Perplexity> evaluate_text(const models::Decoder& decoder, const std::vector<int32_t>& ids, const EvaluateOptions& options) {
  if (ids.size() < 2) return base::refuse("the text has {} tokens; perplexity needs at least 2", ids.size());
  if (auto ok = check_ids(ids, decoder.config().vocab_size); !ok) return base::pass(ok);
  auto window = window_of(decoder, options);
  if (!window) return base::pass(window);
  const int64_t stride = options.stride == 0 ? std::max<int64_t>(1, *window / 2) : options.stride;
  if (stride < 1 || stride > *window) return base::refuse("the stride is {} tokens; it must lie between 1 and the window of {}", stride, *window);

  const auto total = static_cast<int64_t>(ids.size());
  Sum sum;
  for (int64_t begin = 0, counted = 0; counted < total; begin += stride) {
    if (auto ok = may_go_on(options); !ok) return base::pass(ok);
    const int64_t end = std::min(begin + *window, total);
    Pass pass;
    pass.sequences.emplace_back(ids.begin() + begin, ids.begin() + end);
    pass.tokens = end - begin;
    for (int64_t t = std::max(counted, begin + 1); t < end; ++t) pass.targets.push_back(t - begin);
    if (auto ok = add_losses(decoder, pass, sum); !ok) return base::pass(ok);
    counted = end;
    if (options.on_progress) options.on_progress(counted, total);
  }
  return mean_of(sum);
}

base::Result<Perplexity> evaluate_answers(const models::Decoder& decoder, const std::vector<ScoredSequence>& sequences, const EvaluateOptions& options) {
  int64_t total = 0, done = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (auto ok = check_sequence(sequences[i], i, decoder.config()); !ok) return base::pass(ok);
    total += static_cast<int64_t>(sequences[i].ids.size());
  }
  auto window = window_of(decoder, options);
  if (!window) return base::pass(window);
  Sum sum;
  Pass pass;
  const auto flush = [&]() -> base::Status {
    if (pass.tokens == 0) return {};
    if (auto ok = may_go_on(options); !ok) return ok;
    if (auto ok = add_losses(decoder, pass, sum); !ok) return ok;
    done += pass.tokens;
    pass = {};
    if (options.on_progress) options.on_progress(done, total);
    return {};
  };
  for (const ScoredSequence& sequence : sequences) {
    if (sequence.ids.empty()) continue;
    if (pass.tokens + static_cast<int64_t>(sequence.ids.size()) > *window) {
      if (auto ok = flush(); !ok) return base::pass(ok);
    }
    append(pass, sequence);
  }
  if (auto ok = flush(); !ok) return base::pass(ok);
  if (sum.tokens == 0) return base::refuse("none of the {} sequences has an answer token to count", sequences.size());
  return mean_of(sum);
}

}  // namespace deepseek::engine
