// Distances of columns against SciPy's statistics (tests/golden/dependence.py), and at the edges.
#include "explain/dependence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "base/random.h"

namespace deepseek::explain {
namespace {

const double kNan = std::nan("");

double draw(base::SplitMix64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

TEST(Dependence, EqualsScipy) {
  const auto json = base::read_json_file(base::fs::path(DEEPSEEK_SOURCE_DIR) / "tests/golden/dependence.json");
  ASSERT_TRUE(json) << json.error().message;
  const auto is_category = (*json)["is_category"].get<std::vector<uint8_t>>();
  const size_t width = is_category.size();
  std::vector<double> rows;
  for (const auto& row : (*json)["rows"]) {
    for (const auto& x : row) rows.push_back(x.is_null() ? kNan : x.get<double>());
  }
  const auto distance = feature_distance(rows, is_category);
  for (size_t i = 0; i < width; ++i) {
    for (size_t j = 0; j < width; ++j) EXPECT_NEAR(distance[i * width + j], (*json)["distance"][i][j].get<double>(), 1e-10) << i << " " << j;
  }
}

TEST(Dependence, NumbersAndCategoriesByHand) {
  // Two categories of means 1 and 3 around 2: SSB 4, SST 8, n 4, k 2: e = 1 - (1 - 4/8) * 3 / 2.
  const std::vector<double> mixed{0, 0, 0, 2, 1, 2, 1, 4};
  EXPECT_NEAR(feature_distance(mixed, std::vector<uint8_t>{1, 0})[1], 1 - std::sqrt(0.25), 1e-14);
  const std::vector<double> reversed{1, 9, 2, 4, 3, 1, 4, 0};
  EXPECT_NEAR(feature_distance(reversed, std::vector<uint8_t>{0, 0})[1], 0, 1e-14);
  // Equal categories, 3 and 3: phi^2 = 1, corrected (1 - 1/5) / (2 - 1/5 - 1) = 1.
  const std::vector<double> equal{0, 1, 0, 1, 0, 1, 5, 0, 5, 0, 5, 0};
  EXPECT_NEAR(feature_distance(equal, std::vector<uint8_t>{1, 1})[1], 0, 1e-14);
}

TEST(Dependence, AtTheEdges) {
  const auto both = [](std::vector<double> rows, uint8_t a, uint8_t b) { return feature_distance(rows, std::vector<uint8_t>{a, b})[1]; };
  for (const auto& [a, b] : {std::pair{0, 0}, {0, 1}, {1, 0}, {1, 1}}) {
    const auto x = static_cast<uint8_t>(a), y = static_cast<uint8_t>(b);
    EXPECT_EQ(both({1, 7, 2, 7, 3, 7, 4, 7}, x, y), 1) << "constant";
    EXPECT_EQ(both({1, kNan, 2, kNan, kNan, 1, kNan, 3}, x, y), 1) << "nothing in common";
    EXPECT_EQ(both({1, 1, 2, 2}, x, y), 1) << "two rows";
    EXPECT_EQ(both({}, x, y), 1) << "no rows";
  }
  EXPECT_EQ(both({1, 0, 2, 1, 3, 2, 4, 3}, 0, 1), 1);  // an identifier
  EXPECT_NEAR(both({1e300, 1, -1e300, -2, 1.7e308, 3, 0, 0.5}, 0, 0), 0, 1e-12);
  EXPECT_NEAR(both({0, 1.7e308, 0, 1.7e308, 1, -1.7e308, 1, -1.7e308}, 1, 0), 0, 1e-12);
  EXPECT_NEAR(both({0, 1e300, 0, 1e300, 1, -1e300, 1, -1e300}, 1, 0), 0, 1e-12);
  EXPECT_NEAR(both({0, 1e-300, 0, 1e-300, 1, 2e-300, 1, 2e-300}, 1, 0), 0, 1e-12);
  EXPECT_LT(both({1, 1, INFINITY, 9, 2, 2, 3, 3}, 0, 0), 1e-12);  // infinite is missing
  EXPECT_TRUE(feature_distance({}, {}).empty());
}

TEST(Dependence, ASampleSaysNearlyTheSame) {
  base::SplitMix64 random{3};
  std::vector<double> rows;
  for (int i = 0; i < 40'000; ++i) {
    const double a = draw(random), c = std::floor(a * 3 + draw(random));
    for (const double x : {a, a + draw(random), c, c + (draw(random) < 0.3 ? 1 : 0), draw(random) < 0.1 ? kNan : a * draw(random)}) rows.push_back(x);
  }
  const std::vector<uint8_t> is_category{0, 0, 1, 1, 0};
  const auto all = feature_distance(rows, is_category, {.most_rows = 1'000'000}), some = feature_distance(rows, is_category), other = feature_distance(rows, is_category, {.seed = 1});
  EXPECT_EQ(some, feature_distance(rows, is_category));
  EXPECT_NE(some, other);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(some[i], all[i], 5 / std::sqrt(5000.0)) << i;  // five standard deviations of a correlation
}

TEST(Dependence, WideTablesTakeFewerRowsWhereTheyMissValues) {
  base::SplitMix64 random{4};
  constexpr size_t kWidth = 800, kRows = 2000;  // 320,000 pairs: 1,678 rows
  std::vector<double> rows(kWidth * kRows);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = i % kWidth == 1 ? rows[i - 1] : i < kWidth ? kNan : draw(random);
  const auto distance = feature_distance(rows, std::vector<uint8_t>(kWidth, 0));
  EXPECT_NEAR(distance[1], 0, 1e-12);
  for (size_t j = 2; j < kWidth; ++j) ASSERT_GT(distance[j], 0.8);
}

}  // namespace
}  // namespace deepseek::explain
