// The order of examples: stages, competence, no example twice before all came once, the same in every run.
#include "train/curriculum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "train/learning_rate.h"

namespace deepseek::train {
namespace {

std::vector<double> rising(size_t count) {
  std::vector<double> values(count);
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

TEST(Curriculum, StagesAdmitFromEasyToHard) {
  const Curriculum curriculum(rising(100), {.stages = 5, .total_steps = 50});
  for (int64_t step = 0; step < 50; ++step) {
    const Admission admission = curriculum.admission(step);
    EXPECT_EQ(admission.stage, step / 10 + 1);
    EXPECT_EQ(admission.admitted, static_cast<size_t>(20 * (step / 10 + 1)));
    EXPECT_EQ(admission.easiest, 1);
    EXPECT_EQ(admission.hardest, static_cast<double>(admission.admitted));
  }
}

TEST(Curriculum, ReverseBeginsWithTheHardest) {
  Curriculum curriculum(rising(100), {.stages = 4, .order = Order::kReverse, .total_steps = 40});
  EXPECT_EQ(curriculum.admission(0).easiest, 76);
  for (const size_t index : curriculum.next(25)) EXPECT_GE(index, 75u);
  EXPECT_EQ(curriculum.admission(39).admitted, 100u);
}

TEST(Curriculum, RandomOrderKeepsThePaceAndForgetsDifficulty) {
  Curriculum curriculum(rising(100), {.stages = 4, .order = Order::kRandom, .total_steps = 40});
  EXPECT_EQ(curriculum.admission(0).admitted, 25u);
  EXPECT_GT(curriculum.admission(0).hardest, 50);
}

TEST(Curriculum, CompetenceFollowsPlatanios) {
  const Curriculum curriculum(rising(1000), {.stages = 5, .pace = Pace::kCompetence, .initial_competence = 0.01, .total_steps = 100});
  for (const int64_t step : {0, 10, 50, 99, 100}) {
    const double expected = std::min(1.0, std::sqrt(static_cast<double>(step) / 100 * (1 - 1e-4) + 1e-4));
    EXPECT_NEAR(static_cast<double>(curriculum.admission(step).admitted), std::ceil(1000 * expected), 1);
  }
}

TEST(Curriculum, EveryExampleOnceBeforeAnyAgain) {
  for (const int64_t stages : {1, 3}) {
    Curriculum curriculum(rising(30), {.stages = stages, .total_steps = 30});
    std::map<size_t, int> seen;
    if (stages > 1) curriculum.skip(30, 3);  // past the last stage, whose passes are whole
    for (int64_t step = 0; step < 10; ++step) {
      for (const size_t index : curriculum.next(3)) ++seen[index];
    }
    for (const auto& [index, count] : seen) EXPECT_LE(count, stages == 1 ? 1 : 2) << index;
    EXPECT_GE(seen.size(), stages == 1 ? 30u : 15u);
  }
}

TEST(Curriculum, SkippingEqualsHavingRun) {
  const CurriculumOptions options{.stages = 5, .total_steps = 40, .seed = 9};
  Curriculum ran(rising(37), options), skipped(rising(37), options);
  std::vector<std::vector<size_t>> batches;
  for (int64_t step = 0; step < 40; ++step) batches.push_back(ran.next(4));
  skipped.skip(23, 4);
  for (size_t step = 23; step < 40; ++step) EXPECT_EQ(skipped.next(4), batches[step]);
  Curriculum other(rising(37), {.stages = 5, .total_steps = 40, .seed = 10});
  EXPECT_NE(other.next(4), batches[0]);
}

TEST(Curriculum, MoreStagesThanExamplesAndABatchAboveAll) {
  Curriculum curriculum(rising(3), {.stages = 50, .total_steps = 100});
  for (int64_t step = 0; step < 100; ++step) EXPECT_EQ(curriculum.next(8).size(), 8u);
}

TEST(Schedule, EqualsTransformers) {
  // get_cosine_schedule_with_warmup and get_linear_schedule_with_warmup(2 of 10 steps), peak 1.
  const Schedule cosine{ScheduleKind::kCosine, 1.0, 2, 10}, linear{ScheduleKind::kLinear, 1.0, 2, 10};
  EXPECT_DOUBLE_EQ(cosine.at(0), 0.0);
  EXPECT_DOUBLE_EQ(cosine.at(1), 0.5);
  EXPECT_DOUBLE_EQ(cosine.at(2), 1.0);
  EXPECT_NEAR(cosine.at(6), 0.5, 1e-12);
  EXPECT_NEAR(cosine.at(9), 0.5 * (1 + std::cos(M_PI * 7 / 8)), 1e-12);
  EXPECT_DOUBLE_EQ(linear.at(6), 0.5);
  EXPECT_DOUBLE_EQ(linear.at(9), 0.125);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleKind::kConstant, 0.3, 0, 10}).at(9), 0.3);
}

}  // namespace
}  // namespace deepseek::train
