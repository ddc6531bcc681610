#include "engine/speculation.h"

#include <algorithm>

#include "kernels/elementwise/row.h"

namespace deepseek::engine {
namespace {

class NgramDrafter : public Drafter {
 public:
  base::Result<std::vector<int32_t>> propose(std::span<const int32_t> history, int64_t most) override {
    for (const size_t n : {size_t{3}, size_t{2}}) {
      if (history.size() < n + 1) continue;
      const auto last = history.last(n);
      // The latest place: what was said last is the likeliest to be said again.
      const auto before = history.first(history.size() - 1);
      const auto found = std::find_end(before.begin(), before.end(), last.begin(), last.end());
      if (found == before.end()) continue;
      const auto next = history.subspan(static_cast<size_t>(found - before.begin()) + n);
      const auto count = std::min<size_t>(next.size(), static_cast<size_t>(most));
      return std::vector<int32_t>(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(count));
    }
    return std::vector<int32_t>();
  }
};

class ModelDrafter : public Drafter {
 public:
  explicit ModelDrafter(LanguageModel& model) : most_(model.config().max_position_embeddings), sequence_(model.new_sequence()) {}
  base::Result<std::vector<int32_t>> propose(std::span<const int32_t> history, int64_t most) override {
    std::vector<int32_t> out;
    const auto size = static_cast<int64_t>(history.size());
    if (size + most > most_) return out;
    const auto [mine, theirs] = std::mismatch(fed_.begin(), fed_.end(), history.begin(), history.end());
    // The last token is always fed: its logits are needed.
    fed_.resize(std::min(static_cast<size_t>(mine - fed_.begin()), history.size() - 1));
    sequence_->truncate(static_cast<int64_t>(fed_.size()));
    std::vector<int32_t> next(history.begin() + static_cast<std::ptrdiff_t>(fed_.size()), history.end());
    while (static_cast<int64_t>(out.size()) < most) {
      auto logits = sequence_->feed(next);
      if (!logits) return base::pass(logits);
      fed_.insert(fed_.end(), next.begin(), next.end());
      next.assign(1, static_cast<int32_t>(kernels::index_of_largest(logits->data(), static_cast<int64_t>(logits->size()))));
      out.push_back(next[0]);
    }
    return out;
  }

 private:
  int64_t most_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<int32_t> fed_;
};

}  // namespace

std::unique_ptr<Drafter> ngram_drafter() { return std::make_unique<NgramDrafter>(); }
std::unique_ptr<Drafter> model_drafter(LanguageModel& model) { return std::make_unique<ModelDrafter>(model); }

void DraftLength::tell(int64_t proposed, int64_t accepted) {
  if (wait_ > 0) {
    --wait_;
    return;
  }
  if (proposed == 0) return;
  if (accepted == proposed) {
    length_ = std::min(kMost, 2 * length_ + 1);
  } else {
    length_ = std::clamp<int64_t>(accepted + 1, 1, kMost);
  }
  // Guesses that are wrong again and again cost more than they bring: wait ever longer, up to 16 tokens.
  misses_ = accepted > 0 ? 0 : misses_ + 1;
  if (misses_ >= 2) wait_ = std::min<int64_t>(16, int64_t{1} << std::min<int64_t>(misses_, 4));
}

}  // namespace deepseek::engine
