// The choice of tiles against a sort of all of them; budgets; names.
#include "kernels/sparse_attention/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace deepseek::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// The rule as it is written: sorted by importance, the lower index first, taken until the budget ends.
std::vector<int32_t> by_sorting(const std::vector<float>& importance, const TileBudget& budget) {
  std::vector<int32_t> order(importance.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](int32_t i) { return std::isnan(importance[static_cast<size_t>(i)]) ? kInfinity : importance[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return rank(a) > rank(b); });
  size_t taken = 0;
  double held = 0;
  while (taken < order.size() && static_cast<int64_t>(taken) < budget.most && (static_cast<int64_t>(taken) < budget.least || held < budget.mass)) {
    held += importance[static_cast<size_t>(order[taken++])];
  }
  order.resize(taken);
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<int32_t> chosen(TileSelection& selection, const std::vector<float>& importance, const TileBudget& budget) {
  const auto got = selection.choose(importance, budget);
  return {got.begin(), got.end()};
}

TEST(TileSelection, TakesWhatASortWouldTake) {
  TileSelection selection;
  std::mt19937 random(3);
  for (const size_t n : {1u, 2u, 3u, 15u, 16u, 17u, 100u, 1000u, 4097u}) {
    for (const int kind : {0, 1, 2}) {
      std::vector<float> importance(n);
      for (auto& value : importance) {
        const float x = std::uniform_real_distribution<float>(0, 1)(random);
        value = kind == 0 ? x : kind == 1 ? std::exp(40 * (x - 1)) : std::floor(4 * x) / 4;  // even, peaked, many ties and zeros
      }
      for (const int64_t most : {int64_t{0}, int64_t{1}, int64_t{7}, static_cast<int64_t>(n / 3), static_cast<int64_t>(n), static_cast<int64_t>(2 * n)}) {
        const TileBudget fixed{most, most, 0};
        ASSERT_EQ(chosen(selection, importance, fixed), by_sorting(importance, fixed)) << n << " tiles, kind " << kind << ", " << most;
      }
    }
  }
}

// Sums in another order of additions: budgets that no sum meets by a hair.
TEST(TileSelection, TakesTheFewestThatHoldTheMass) {
  TileSelection selection;
  std::mt19937 random(5);
  for (const size_t n : {1u, 16u, 333u, 2000u}) {
    std::vector<float> importance(n);
    for (auto& value : importance) value = std::exp2(static_cast<float>(random() % 12));  // powers of two: sums are exact
    const double all = std::accumulate(importance.begin(), importance.end(), 0.0);
    for (const double share : {0.0, 0.1, 0.5, 0.9, 1.0, 2.0}) {
      for (const int64_t least : {0, 5}) {
        for (const int64_t most : {int64_t{3}, static_cast<int64_t>(n)}) {
          const TileBudget budget{std::min(least, most), most, static_cast<float>(share * all)};
          ASSERT_EQ(chosen(selection, importance, budget), by_sorting(importance, budget)) << n << " tiles, share " << share << ", " << least << " to " << most;
        }
      }
    }
  }
}

TEST(TileSelection, NanAndInfinityComeFirst) {
  TileSelection selection;
  EXPECT_THAT(chosen(selection, {1.0f, kNan, 0.5f, kInfinity, 3.0f}, {2, 2, 0}), ElementsAre(1, 3));
  EXPECT_THAT(chosen(selection, {kNan, kNan, kNan}, {2, 2, 0}), ElementsAre(0, 1));
  EXPECT_THAT(chosen(selection, {0.0f, 0.0f, 0.0f}, {1, 2, 0.5f}), ElementsAre(0, 1));
  EXPECT_THAT(chosen(selection, {}, {1, 2, 0.5f}), ElementsAre());
  EXPECT_THAT(chosen(selection, {1.0f}, {-5, -2, 0.5f}), ElementsAre());
}

TEST(TileSelection, OneOfManyTilesCountsWhereAFloatsSumWouldStandStill) {
  std::vector<float> importance(100000, 1e-7f);
  TileSelection selection;
  const auto taken = chosen(selection, importance, {0, 100000, 0.005f}).size();
  EXPECT_NEAR(static_cast<double>(taken), 50000, 500);
}

TEST(Budget, OfEachMode) {
  SelectionOptions o;
  o.mode = SelectionOptions::Mode::kRatio;
  o.ratio = 0.25f;
  EXPECT_EQ(budget_of(o, 100, 5, 0.3f).most, 20);
  EXPECT_EQ(budget_of(o, 100, 5, 0.3f).least, 20);
  EXPECT_EQ(budget_of(o, 100, 30, 0.3f).most, 0) << "what is read anyway is enough";
  o.ratio = 1;
  EXPECT_EQ(budget_of(o, 100, 5, 0.3f).most, 95);
  o.mode = SelectionOptions::Mode::kTopK;
  o.top_k = 100;  // 7 tiles of 16
  EXPECT_EQ(budget_of(o, 100, 5, 0.3f).most, 2);
  o.top_k = 1000000000;
  EXPECT_EQ(budget_of(o, 100, 5, 0.3f).most, 95) << "more keys than there are: all";
  o.mode = SelectionOptions::Mode::kTopP;
  o.top_p = 0.9f;
  o.least = 512;
  o.most = 0.5f;
  const TileBudget budget = budget_of(o, 100, 5, 0.3f);
  EXPECT_EQ(budget.least, 27);
  EXPECT_EQ(budget.most, 45);
  EXPECT_NEAR(budget.mass, 0.6f, 1e-6);
}

TEST(Softmax, OfARow) {
  std::vector<float> row(37);
  std::mt19937 random(1);
  for (auto& x : row) x = std::normal_distribution<float>(0, 20)(random);
  std::vector<double> expected(row.begin(), row.end());
  const double best = *std::max_element(expected.begin(), expected.end());
  double sum = 0;
  for (auto& x : expected) sum += x = std::exp(x - best);
  softmax_row(row.data(), 37);
  for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(row[i], expected[i] / sum, 1e-5 * expected[i] / sum + 1e-30);
  softmax_row(nullptr, 0);
  for (const float bad : {kNan, kInfinity}) {
    std::vector<float> some = {1.0f, bad, 3.0f, -kInfinity, bad};
    softmax_row(some.data(), 5);
    EXPECT_THAT(some, ElementsAre(0, 1, 0, 0, 1));
  }
  std::vector<float> lowest = {-kInfinity, 2.0f, -kInfinity};
  softmax_row(lowest.data(), 3);
  EXPECT_NEAR(lowest[1], 1, 1e-6);
  EXPECT_NEAR(lowest[0], 0, 1e-6);
}

TEST(Selection, Names) {
  EXPECT_FALSE(selection_named("dense")->has_value());
  EXPECT_EQ((*selection_named("dsa"))->mode, SelectionOptions::Mode::kTopP);
  EXPECT_FLOAT_EQ((*selection_named("dsa:top_p=0.8"))->top_p, 0.8f);
  EXPECT_FLOAT_EQ((*selection_named("dsa:ratio=1"))->ratio, 1.0f);
  EXPECT_EQ((*selection_named("dsa:top_k=64"))->top_k, 64);
  for (const char* unknown : {"", "sparse", "dsa:", "dsa:ratio", "dsa:=0.4", "dsa:ratio=", "dsa:ratio=0.4x", "dsa:keys=3", "dsa=ratio:0.4", "dense:ratio=0.4", "dsa:ratio=0.4,top_k=3"}) {
    const auto got = selection_named(unknown);
    ASSERT_FALSE(got) << unknown;
    EXPECT_THAT(got.error().message, HasSubstr("use dense, dsa")) << unknown;
  }
  for (const char* outside : {"dsa:ratio=0", "dsa:ratio=-1", "dsa:ratio=1.01", "dsa:ratio=nan", "dsa:top_p=0", "dsa:top_p=inf"}) {
    ASSERT_FALSE(selection_named(outside)) << outside;
    EXPECT_THAT(selection_named(outside).error().message, HasSubstr("above 0, up to 1")) << outside;
  }
  for (const char* outside : {"dsa:top_k=0", "dsa:top_k=-3", "dsa:top_k=2.5", "dsa:top_k=1e30"}) {
    ASSERT_FALSE(selection_named(outside)) << outside;
    EXPECT_THAT(selection_named(outside).error().message, HasSubstr("whole number")) << outside;
  }
}

}  // namespace
}  // namespace deepseek::kernels
