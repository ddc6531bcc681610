#include "train/curriculum.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"

namespace deepseek::train {
namespace {

// Fisher-Yates with numbers that depend on the seed alone, whatever the standard library.
void shuffle(std::vector<size_t>& values, uint64_t seed) {
  for (size_t i = values.size(); i > 1; --i) {
    seed = base::SplitMix64{seed}();
    std::swap(values[i - 1], values[seed % i]);
  }
}

}  // namespace

const char* name_of(Order order) {
  return order == Order::kForward ? "forward" : order == Order::kReverse ? "reverse" : "random";
}

const char* name_of(Pace pace) { return pace == Pace::kStages ? "steps" : "competence"; }

base::Result<Order> order_named(const std::string& name) {
  for (const auto order : {Order::kForward, Order::kReverse, Order::kRandom}) {
    if (name == name_of(order)) return order;
  }
  return base::refuse("curriculum order '{}' is unknown; use forward, reverse or random", name);
}

base::Result<Pace> pace_named(const std::string& name) {
  for (const auto pace : {Pace::kStages, Pace::kCompetence}) {
    if (name == name_of(pace)) return pace;
  }
  return base::refuse("curriculum schedule '{}' is unknown; use steps or competence", name);
}

Curriculum::Curriculum(std::vector<double> difficulty, const CurriculumOptions& options)
    : difficulty_(std::move(difficulty)), options_(options), ranked_(difficulty_.size()) {
  std::iota(ranked_.begin(), ranked_.end(), size_t{0});
  // Examples of equal difficulty stand in random order, so that the file's order means nothing.
  shuffle(ranked_, base::SplitMix64{options_.seed}() ^ 0x5EEDu);
  if (options_.order == Order::kRandom) return;
  std::stable_sort(ranked_.begin(), ranked_.end(), [this](size_t a, size_t b) {
    return options_.order == Order::kForward ? difficulty_[a] < difficulty_[b] : difficulty_[a] > difficulty_[b];
  });
}

int64_t Curriculum::stage_of(int64_t step, double& share) const {
  const double progress = static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, options_.total_steps));
  const auto stages = static_cast<double>(options_.stages), c0 = options_.initial_competence;
  const double passed = options_.pace == Pace::kStages ? progress : std::min(1.0, std::sqrt(progress * (1 - c0 * c0) + c0 * c0));
  const int64_t stage = std::clamp<int64_t>(static_cast<int64_t>(passed * stages) + 1, 1, options_.stages);
  share = options_.pace == Pace::kStages ? static_cast<double>(stage) / stages : passed;
  return stage;
}

size_t Curriculum::admitted_at(double share) const {
  const double count = std::ceil(share * static_cast<double>(ranked_.size()) - 1e-9);
  return std::min(ranked_.size(), std::max<size_t>(1, static_cast<size_t>(count)));
}

Admission Curriculum::admission(int64_t step) const {
  Admission out;
  double share = 1.0;
  out.stage = stage_of(step, share);
  out.admitted = admitted_at(share);
  if (ranked_.empty()) return out;
  out.easiest = out.hardest = difficulty_[ranked_[0]];
  for (size_t i = 0; i < out.admitted; ++i) {
    out.easiest = std::min(out.easiest, difficulty_[ranked_[i]]);
    out.hardest = std::max(out.hardest, difficulty_[ranked_[i]]);
  }
  return out;
}

std::vector<size_t> Curriculum::next(int64_t batch_size) {
  double share = 1.0;
  (void)stage_of(step_++, share);
  const size_t admitted = admitted_at(share);
  std::vector<size_t> batch;
  while (static_cast<int64_t>(batch.size()) < batch_size) {
    if (pending_.empty() || pending_admitted_ != admitted) refill(admitted);
    batch.push_back(pending_.back());
    pending_.pop_back();
  }
  return batch;
}

void Curriculum::skip(int64_t steps, int64_t batch_size) {
  for (int64_t i = 0; i < steps; ++i) (void)next(batch_size);
}

void Curriculum::refill(size_t admitted) {
  if (pending_.empty() || admitted < pending_admitted_) {
    pending_.assign(ranked_.begin(), ranked_.begin() + static_cast<long>(admitted));
  } else {
    // New ones join what is left of this pass.
    pending_.insert(pending_.end(), ranked_.begin() + static_cast<long>(pending_admitted_), ranked_.begin() + static_cast<long>(admitted));
  }
  shuffle(pending_, base::SplitMix64{options_.seed ^ (++pass_ << 20)}());
  pending_admitted_ = admitted;
}

}  // namespace deepseek::train
