// Which examples a step trains on: from easy to hard in stages, or by competence, or all at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::train {

enum class Order { kForward, kReverse, kRandom };  ///< easy first, hard first, or the same pace in an order drawn by lot
enum class Pace { kStages, kCompetence };
/// The names that the command line and a checkpoint use.
[[nodiscard]] const char* name_of(Order order);
[[nodiscard]] const char* name_of(Pace pace);
[[nodiscard]] base::Result<Order> order_named(const std::string& name);
[[nodiscard]] base::Result<Pace> pace_named(const std::string& name);

struct CurriculumOptions {
  int64_t stages = 1;  ///< stage s of N admits the first s/N of the examples; 1: all from the start
  Order order = Order::kForward;
  Pace pace = Pace::kStages;
  double initial_competence = 0.01;  ///< c0 of Platanios et al. 2019; their c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2))
  int64_t total_steps = 1;
  uint64_t seed = 42;
};

/// What a step may draw from.
struct Admission {
  int64_t stage = 1;      ///< counted from 1
  size_t admitted = 0;    ///< examples
  double easiest = 0, hardest = 0;
};

/// A pure function of its options: the n-th batch is the same in every run, so a resumed run goes on where the other stopped.
class Curriculum {
 public:
  Curriculum(std::vector<double> difficulty, const CurriculumOptions& options);
  [[nodiscard]] Admission admission(int64_t step) const;
  /// Indices of the examples of the next step. Within what is admitted every example comes once before any comes again.
  [[nodiscard]] std::vector<size_t> next(int64_t batch_size);
  void skip(int64_t steps, int64_t batch_size);
  [[nodiscard]] int64_t step() const { return step_; }

 private:
  [[nodiscard]] int64_t stage_of(int64_t step, double& share) const;
  [[nodiscard]] size_t admitted_at(double share) const;
  void refill(size_t admitted);
  std::vector<double> difficulty_;
  CurriculumOptions options_;
  std::vector<size_t> ranked_;   // examples in the order of admission
  std::vector<size_t> pending_;  // of this pass, next one last
  size_t pending_admitted_ = 0;
  int64_t step_ = 0;
  uint64_t pass_ = 0;
};

}  // namespace deepseek::train
