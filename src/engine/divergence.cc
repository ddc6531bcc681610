#include "engine/divergence.h"

#include <algorithm>
#include <cmath>

#include "hardware/team.h"
#include "kernels/elementwise/row.h"

namespace deepseek::engine {
namespace {

constexpr int64_t kPiece = 64, kDefaultWindow = 512;  // positions whose logits are held at once, by either model

struct Position {
  double kl = 0, loss = 0, reference_loss = 0;
  bool agree = false;
};

double loss_of(const float* logits, int64_t vocabulary, int32_t target) {
  const float best = kernels::largest(logits, vocabulary);
  return best + std::log(static_cast<double>(kernels::sum_of_exponentials(logits, best, vocabulary))) - logits[target];
}

class Comparison {
 public:
  Comparison(LanguageModel& reference, LanguageModel& model, const EvaluateOptions& options) : reference_(reference), model_(model), options_(options), team_(options.threads) {}

  base::Status sequence(std::span<const int32_t> ids, int64_t done, int64_t total) {
    auto first = reference_.new_sequence(), second = model_.new_sequence();
    for (size_t at = 0; at + 1 < ids.size(); at += kPiece) {
      if (options_.stop_requested && options_.stop_requested()) return base::fail("the comparison was interrupted");
      const auto piece = ids.subspan(at, std::min<size_t>(kPiece, ids.size() - at));
      auto wanted = first->feed(piece, true);
      if (!wanted) return base::pass(wanted);
      auto got = second->feed(piece, true);
      if (!got) return base::pass(got);
      // The last token of a sequence has nothing after it.
      const size_t count = std::min(piece.size(), ids.size() - 1 - at);
      if (auto counted = positions(*wanted, *got, ids.subspan(at + 1, count)); !counted) return counted;
      if (options_.on_progress) options_.on_progress(done + static_cast<int64_t>(at + piece.size()), total);
    }
    return {};
  }

  [[nodiscard]] base::Result<Divergence> result() const {
    if (sum_.tokens == 0) return base::refuse("there is nothing to compare: give at least one sequence of two tokens");
    Divergence out = sum_;
    const auto count = static_cast<double>(out.tokens);
    out.mean_kl /= count;
    out.agreement /= count;
    out.loss /= count;
    out.reference_loss /= count;
    return out;
  }

 private:
  base::Status positions(std::span<const float> wanted, std::span<const float> got, std::span<const int32_t> next) {
    const int64_t vocabulary = model_.config().vocab_size;
    std::vector<Position> found(next.size());
    team_.run([&](int) {
      team_.share(static_cast<int64_t>(next.size()), 1, [&](int64_t i, int64_t) {
        const float *p = wanted.data() + i * vocabulary, *q = got.data() + i * vocabulary;
        const int32_t target = next[static_cast<size_t>(i)];
        found[static_cast<size_t>(i)] = {kernels::divergence_row(p, q, vocabulary), loss_of(q, vocabulary, target), loss_of(p, vocabulary, target),
                                         kernels::index_of_largest(p, vocabulary) == kernels::index_of_largest(q, vocabulary)};
      });
    });
    for (const auto& position : found) {
      if (!std::isfinite(position.kl)) return base::fail("a logit is not a finite number: the weights of one of the models are damaged");
      const double kl = std::max(position.kl, 0.0);  // rounding may put a tiny one below zero
      sum_.mean_kl += kl;
      sum_.largest_kl = std::max(sum_.largest_kl, kl);
      sum_.agreement += position.agree ? 1 : 0;
      sum_.loss += position.loss;
      sum_.reference_loss += position.reference_loss;
    }
    sum_.tokens += static_cast<int64_t>(next.size());
    return {};
  }
  LanguageModel &reference_, &model_;
  const EvaluateOptions& options_;
  hardware::Team team_;
  Divergence sum_;
};

}  // namespace

base::Result<Divergence> compare_models(LanguageModel& reference, LanguageModel& model, std::span<const std::vector<int32_t>> sequences,
                                        const EvaluateOptions& options) {
  if (reference.config().vocab_size != model.config().vocab_size) {
    return base::refuse("the models do not belong together: vocabularies of {} and {} tokens", reference.config().vocab_size, model.config().vocab_size);
  }
  const auto window = static_cast<size_t>(std::min({options.window > 0 ? options.window : kDefaultWindow, reference.config().max_position_embeddings,
                                                    model.config().max_position_embeddings}));
  int64_t total = 0, done = 0;
  for (const auto& sequence : sequences) total += static_cast<int64_t>(sequence.size());
  Comparison comparison(reference, model, options);
  for (const auto& sequence : sequences) {
    for (size_t at = 0; at < sequence.size(); at += window) {
      const auto piece = std::span(sequence).subspan(at, std::min(window, sequence.size() - at));
      if (auto compared = comparison.sequence(piece, done, total); !compared) return base::pass(compared);
      done += static_cast<int64_t>(piece.size());
    }
  }
  return comparison.result();
}

}  // namespace deepseek::engine
