#include "engine/perplexity.h"

#include <algorithm>
#include <cmath>

namespace deepseek::engine {
namespace {

constexpr int64_t kDefaultWindow = 2048;

struct Sum {
  double loss = 0;
  int64_t tokens = 0;
};

// Sequences of one pass and which of their tokens count.
struct Pass {
  std::vector<LanguageModel::Scored> sequences;
  int64_t tokens = 0, counted = 0;
};

base::Status add_losses(LanguageModel& model, const Pass& pass, Sum& sum) {
  if (pass.counted == 0) return {};
  auto loss = model.loss(pass.sequences);
  if (!loss) return base::pass(loss);
  if (!std::isfinite(*loss)) return base::fail("a loss is not a finite number: the model's weights are damaged or its type overflows");
  sum.loss += *loss;
  sum.tokens += pass.counted;
  return {};
}

base::Status check_ids(const std::vector<int32_t>& ids, int64_t vocabulary) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) return base::refuse("token {} is {}, outside the model's vocabulary of {}", i, ids[i], vocabulary);
  }
  return {};
}

base::Result<int64_t> window_of(const LanguageModel& model, const EvaluateOptions& options) {
  const int64_t context = model.config().max_position_embeddings;
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
  pass.counted += std::count_if(sequence.counted.begin() + 1, sequence.counted.end(), [](uint8_t mark) { return mark != 0; });
  pass.sequences.push_back({sequence.ids, sequence.counted});
  pass.tokens += static_cast<int64_t>(sequence.ids.size());
}

}  // namespace

base::Result<Perplexity> evaluate_text(LanguageModel& model, const std::vector<int32_t>& ids, const EvaluateOptions& options) {
  if (ids.size() < 2) return base::refuse("the text has {} tokens; perplexity needs at least 2", ids.size());
  if (auto ok = check_ids(ids, model.config().vocab_size); !ok) return base::pass(ok);
  auto window = window_of(model, options);
  if (!window) return base::pass(window);
  const int64_t stride = options.stride == 0 ? std::max<int64_t>(1, *window / 2) : options.stride;
  if (stride < 1 || stride > *window) return base::refuse("the stride is {} tokens; it must lie between 1 and the window of {}", stride, *window);

  const auto total = static_cast<int64_t>(ids.size());
  Sum sum;
  for (int64_t begin = 0, counted = 0; counted < total; begin += stride) {
    if (auto ok = may_go_on(options); !ok) return base::pass(ok);
    const int64_t end = std::min(begin + *window, total);
    const int64_t first = std::max(counted, begin + 1);
    std::vector<uint8_t> marks(static_cast<size_t>(end - begin), 0);
    std::fill(marks.begin() + (first - begin), marks.end(), uint8_t{1});
    const Pass pass{{{{ids.data() + begin, marks.size()}, marks}}, end - begin, end - first};
    if (auto ok = add_losses(model, pass, sum); !ok) return base::pass(ok);
    counted = end;
    if (options.on_progress) options.on_progress(counted, total);
  }
  return mean_of(sum);
}

base::Result<Perplexity> evaluate_answers(LanguageModel& model, const std::vector<ScoredSequence>& sequences, const EvaluateOptions& options) {
  int64_t total = 0, done = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (auto ok = check_sequence(sequences[i], i, model.config()); !ok) return base::pass(ok);
    total += static_cast<int64_t>(sequences[i].ids.size());
  }
  auto window = window_of(model, options);
  if (!window) return base::pass(window);
  Sum sum;
  Pass pass;
  const auto flush = [&]() -> base::Status {
    if (pass.tokens == 0) return {};
    if (auto ok = may_go_on(options); !ok) return ok;
    if (auto ok = add_losses(model, pass, sum); !ok) return ok;
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
