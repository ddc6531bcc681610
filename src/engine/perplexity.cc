#include "engine/perplexity.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace deepseek::engine {
namespace {

using base::refuse;
using base::Result;

at::Tensor longs(const std::vector<int64_t>& values) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<int64_t>());
  return out;
}

// Sum of losses of the rows that predict the marked tokens of packed sequences.
double loss_sum(const models::Decoder& decoder, const std::vector<std::vector<int32_t>>& sequences, const std::vector<int64_t>& rows, const std::vector<int64_t>& targets) {
  const at::Tensor hidden = decoder.hidden(models::pack_sequences(sequences));
  const auto device = hidden.device();
  const auto result = kernels::linear_cross_entropy(at::index_select(hidden, 0, longs(rows).to(device)), decoder.head(), longs(targets).to(device), {}, false,
                                                    {.softcap = decoder.config().final_softcap});
  return result.losses.to(at::kDouble).sum().item<double>();
}

base::Status check_ids(const models::Decoder& decoder, const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= decoder.config().vocab_size) return base::fail("the token {} is outside the vocabulary of {}", id, decoder.config().vocab_size);
  }
  return {};
}

Perplexity finished(double sum, int64_t tokens) {
  const double mean = sum / static_cast<double>(tokens);
  return {mean, std::exp(mean), tokens};
}

}  // namespace

Result<Perplexity> evaluate_text(const models::Decoder& decoder, const std::vector<int32_t>& ids, const EvaluateOptions& options) {
  const int64_t context = decoder.config().max_position_embeddings, size = static_cast<int64_t>(ids.size());
  const int64_t window = options.window > 0 ? options.window : std::min<int64_t>(context, 2048), stride = options.stride > 0 ? options.stride : std::max<int64_t>(1, window / 2);
  if (size < 2) return refuse("a text of {} tokens has nothing to predict", size);
  if (window < 2 || window > context) return refuse("a window of {} tokens does not fit the model's context of {}", window, context);
  if (stride > window) return refuse("a stride of {} is more than the window of {}: tokens would be left out", stride, window);
  if (auto sound = check_ids(decoder, ids); !sound) return base::pass(sound);
  at::NoGradGuard no_grad;
  double sum = 0;
  int64_t counted = 0, done = 0;  // tokens before `done` have been predicted or seen
  for (int64_t begin = 0; done < size; begin += stride) {
    if (options.stop_requested && options.stop_requested()) return base::fail("interrupted after {} of {} tokens", done, size);
    const int64_t end = std::min(size, begin + window);
    std::vector<int64_t> rows, targets;
    for (int64_t t = std::max(done, begin + 1); t < end; ++t) {
      rows.push_back(t - 1 - begin);
      targets.push_back(ids[static_cast<size_t>(t)]);
    }
    if (!rows.empty()) sum += loss_sum(decoder, {{ids.begin() + begin, ids.begin() + end}}, rows, targets);
    counted += static_cast<int64_t>(rows.size());
    done = end;
    if (options.on_progress) options.on_progress(done, size);
  }
  return finished(sum, counted);
}

Result<Perplexity> evaluate_answers(const models::Decoder& decoder, const std::vector<ScoredSequence>& sequences, const EvaluateOptions& options) {
  const int64_t context = decoder.config().max_position_embeddings, window = options.window > 0 ? options.window : 2048;
  int64_t total = 0;
  for (const auto& sequence : sequences) {
    if (sequence.ids.size() != sequence.counted.size()) return base::fail("{} tokens have {} marks", sequence.ids.size(), sequence.counted.size());
    if (static_cast<int64_t>(sequence.ids.size()) > context) return refuse("a sequence has {} tokens, the model's context holds {}", sequence.ids.size(), context);
    if (auto sound = check_ids(decoder, sequence.ids); !sound) return base::pass(sound);
    for (size_t t = 1; t < sequence.counted.size(); ++t) total += sequence.counted[t] != 0 ? 1 : 0;
  }
  if (total == 0) return refuse("there is no answer to measure");
  at::NoGradGuard no_grad;
  double sum = 0;
  int64_t counted = 0;
  for (size_t at = 0; at < sequences.size();) {
    if (options.stop_requested && options.stop_requested()) return base::fail("interrupted after {} of {} tokens", counted, total);
    std::vector<std::vector<int32_t>> pass;
    std::vector<int64_t> rows, targets;
    int64_t tokens = 0;
    while (at < sequences.size() && (pass.empty() || tokens + static_cast<int64_t>(sequences[at].ids.size()) <= window)) {
      const auto& sequence = sequences[at++];
      for (size_t t = 1; t < sequence.ids.size(); ++t) {
        if (sequence.counted[t] == 0) continue;
        rows.push_back(tokens + static_cast<int64_t>(t) - 1);
        targets.push_back(sequence.ids[t]);
      }
      if (sequence.ids.empty()) continue;
      tokens += static_cast<int64_t>(sequence.ids.size());
      pass.push_back(sequence.ids);
    }
    if (!rows.empty()) sum += loss_sum(decoder, pass, rows, targets);
    counted += static_cast<int64_t>(rows.size());
    if (options.on_progress) options.on_progress(counted, total);
  }
  return finished(sum, counted);
}

}  // namespace deepseek::engine
