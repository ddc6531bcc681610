// Integrals of gradients against their closed forms.
#include "explain/gradients.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <random>

namespace deepseek::explain {
namespace {

using Function = std::function<double(std::span<const double>)>;
using Derivative = std::function<std::vector<double>(std::span<const double>)>;

TableModel model_of(size_t features, const Function& f, const Derivative& df) {
  TableModel model{.kind = "function", .outputs = {"other", "y"}};
  for (size_t j = 0; j < features; ++j) model.features.push_back({"x" + std::to_string(j), {}});
  model.score = [=](std::span<const double> rows) -> base::Result<std::vector<double>> {
    std::vector<double> scores;
    for (size_t i = 0; i < rows.size(); i += features) scores.insert(scores.end(), {-1.0, f(rows.subspan(i, features))});
    return scores;
  };
  model.gradient = [=](std::span<const double> rows, int64_t output) -> base::Result<std::vector<double>> {
    std::vector<double> all;
    for (size_t i = 0; i < rows.size(); i += features) {
      auto one = df(rows.subspan(i, features));
      if (output == 0) one.assign(features, 0);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  };
  return model;
}

double dot(std::span<const double> a, std::span<const double> b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

std::vector<double> random(uint32_t seed, size_t count) {
  std::mt19937 draw(seed);
  std::vector<double> x(count);
  for (double& one : x) one = std::normal_distribution<double>(0, 1)(draw);
  return x;
}

const std::vector<double> kWeights{0.5, -2, 0.25, 1};

TableModel linear() {
  return model_of(4, [](auto x) { return 3 + dot(kWeights, x); }, [](auto) { return kWeights; });
}
// exp(w x): the integrated gradient of feature j is w_j (x_j - b_j) (e^{wx} - e^{wb}) / (wx - wb).
TableModel exponential() {
  return model_of(4, [](auto x) { return std::exp(dot(kWeights, x)); },
                  [](auto x) {
                    std::vector<double> d = kWeights;
                    for (double& one : d) one *= std::exp(dot(kWeights, x));
                    return d;
                  });
}
std::vector<double> exponential_integral(std::span<const double> x, std::span<const double> b) {
  const double from = dot(kWeights, b), to = dot(kWeights, x), mean = (std::exp(to) - std::exp(from)) / (to - from);
  std::vector<double> values;
  for (size_t j = 0; j < 4; ++j) values.push_back(kWeights[j] * (x[j] - b[j]) * mean);
  return values;
}
// x'Ax + x0 x1 x2: integrals of the products follow from b + a (x - b), term by term.
TableModel cubic() {
  return model_of(3, [](auto x) { return 2 * x[0] * x[0] - x[1] * x[2] + x[0] * x[1] * x[2]; },
                  [](auto x) { return std::vector<double>{4 * x[0] + x[1] * x[2], -x[2] + x[0] * x[2], -x[1] + x[0] * x[1]}; });
}
double mean_product(double x, double b, double y, double c) { return b * c + (b * (y - c) + c * (x - b)) / 2 + (x - b) * (y - c) / 3; }
std::vector<double> cubic_integral(std::span<const double> x, std::span<const double> b) {
  const auto mean = [&](size_t j) { return (x[j] + b[j]) / 2; };
  const auto both = [&](size_t i, size_t j) { return mean_product(x[i], b[i], x[j], b[j]); };
  return {(x[0] - b[0]) * (4 * mean(0) + both(1, 2)), (x[1] - b[1]) * (both(0, 2) - mean(2)), (x[2] - b[2]) * (both(0, 1) - mean(1))};
}

TEST(IntegratedGradients, EqualClosedForms) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const auto row = random(seed, 4), baseline = random(seed + 100, 4);
    const auto line = integrated_gradients(linear(), row, baseline, 1, {.nodes = 1, .most_pieces = 1}), curve = integrated_gradients(exponential(), row, baseline, 1);
    const auto product = integrated_gradients(cubic(), std::span(row).first(3), std::span(baseline).first(3), 1, {.nodes = 2, .most_pieces = 1});
    ASSERT_TRUE(line && curve && product);
    const auto expected = exponential_integral(row, baseline), polynomial = cubic_integral(row, baseline);
    for (size_t j = 0; j < 4; ++j) {
      EXPECT_NEAR(line->values[j], kWeights[j] * (row[j] - baseline[j]), 1e-14);
      EXPECT_NEAR(curve->values[j], expected[j], 1e-12 * std::max(1.0, std::abs(expected[j])));
      EXPECT_EQ(curve->half_width[j], 0);
    }
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(product->values[j], polynomial[j], 1e-13 * std::max(1.0, std::abs(polynomial[j])));
    for (const auto* a : {&*line, &*curve, &*product}) EXPECT_NEAR(a->gap, 0, 1e-12 * std::max(1.0, std::abs(a->score)));
    EXPECT_NEAR(line->base, 3 + dot(kWeights, baseline), 1e-14);
    EXPECT_NEAR(line->score, 3 + dot(kWeights, row), 1e-14);
    const auto other = integrated_gradients(linear(), row, baseline, 0);
    ASSERT_TRUE(other);
    EXPECT_EQ(other->values, std::vector<double>(4, 0));
    EXPECT_EQ(other->score, -1);
  }
}

// A step that the first points of the path cannot see: sigmoid(k (x0 + x1 - 1)).
TEST(IntegratedGradients, CutsThePathUntilItAddsUp) {
  const auto f = [](auto x) { return 1 / (1 + std::exp(-200 * (x[0] + x[1] - 1))); };
  const auto steep = model_of(2, f, [=](auto x) {
    const double y = f(x);
    return std::vector<double>(2, 200 * y * (1 - y));
  });
  const std::vector<double> row{2, 1}, zero{0, 0};
  const auto coarse = integrated_gradients(steep, row, zero, 1, {.most_pieces = 1}), fine = integrated_gradients(steep, row, zero, 1);
  ASSERT_TRUE(coarse && fine);
  EXPECT_GT(std::abs(coarse->gap), 0.01);
  EXPECT_LT(std::abs(fine->gap), 1e-5);
  EXPECT_NEAR(fine->values[0], 2.0 / 3, 1e-5);
  EXPECT_NEAR(fine->values[1], 1.0 / 3, 1e-5);
}

TEST(IntegratedGradients, WhatCannotMoveIsLeftInTheGap) {
  auto model = model_of(3, [](auto x) { return x[0] + 10 * x[1] + (std::isnan(x[2]) ? 0.5 : x[2]); }, [](auto x) { return std::vector<double>{1, 0, std::isnan(x[2]) ? 0.0 : 1.0}; });
  model.features[1].categories = {"no", "yes"};
  const std::vector<double> row{2, 1, std::nan("")}, baseline{-1, 0, 3};
  for (const auto& a : {integrated_gradients(model, row, baseline, 1), expected_gradients(model, row, baseline, 1)}) {
    ASSERT_TRUE(a);
    EXPECT_NEAR(a->values[0], 3, 1e-12);
    EXPECT_EQ(a->values[1], 0);
    EXPECT_EQ(a->values[2], 0);
    EXPECT_NEAR(a->gap, 10 + 0.5 - 3, 1e-12);
  }
}

TEST(ExpectedGradients, ExactWhereTheGradientStaysTheSame) {
  const auto row = random(1, 4), background = random(2, 4 * 50);
  const auto a = expected_gradients(linear(), row, background, 1);
  ASSERT_TRUE(a);
  for (size_t j = 0; j < 4; ++j) {
    double mean = 0;
    for (size_t r = 0; r < 50; ++r) mean += background[r * 4 + j] / 50;
    EXPECT_NEAR(a->values[j], kWeights[j] * (row[j] - mean), 1e-13);
    EXPECT_EQ(a->half_width[j], 0) << j;
  }
  EXPECT_NEAR(a->gap, 0, 1e-12);
}

// The mean of the closed forms over the background lies within the intervals about as often as they say.
TEST(ExpectedGradients, IntervalsHold) {
  struct Case {
    size_t rows;
    int64_t samples;
    double spread;  // of the background: where draws see a part of it no few rows may outweigh the rest
  };
  for (const auto& [rows, samples, spread] : {Case{1, 64, 1}, {20, 640, 1}, {200, 1400, 1}, {400, 600, 0.3}}) {
    const auto row = random(7, 4);
    auto background = random(8, 4 * rows);
    for (double& x : background) x *= spread;
    std::vector<double> expected(4);
    for (size_t r = 0; r < rows; ++r) {
      const auto one = exponential_integral(row, std::span(background).subspan(4 * r, 4));
      for (size_t j = 0; j < 4; ++j) expected[j] += one[j] / static_cast<double>(rows);
    }
    std::array<int, 4> inside{};
    for (uint64_t seed = 0; seed < 250; ++seed) {
      const auto a = expected_gradients(exponential(), row, background, 1, {.samples = samples, .seed = seed});
      ASSERT_TRUE(a);
      for (size_t j = 0; j < 4; ++j) inside[j] += std::abs(a->values[j] - expected[j]) <= a->half_width[j] ? 1 : 0;
    }
    for (const int hits : inside) {  // of 250 trials; four deviations of sqrt(0.05 * 0.95 / 250)
      EXPECT_GE(hits, 223) << rows << " rows, " << samples << " samples";
      EXPECT_LT(hits, 250) << rows << " rows, " << samples << " samples";
    }
  }
}

TEST(ExpectedGradients, SeedsDecide) {
  const auto row = random(1, 4), background = random(2, 4 * 30);
  const auto a = expected_gradients(exponential(), row, background, 1, {.seed = 3}), b = expected_gradients(exponential(), row, background, 1, {.seed = 3}),
             c = expected_gradients(exponential(), row, background, 1, {.seed = 4});
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(a->values, b->values);
  EXPECT_NE(a->values, c->values);
}

TEST(Gradients, RefuseWhatDoesNotFit) {
  const std::vector<double> row(4), three(3), none;
  TableModel opaque = linear();
  opaque.gradient = {};
  EXPECT_EQ(integrated_gradients(opaque, row, row, 1).error().message, "a model of the kind 'function' has no gradients; attribute by coalitions instead");
  EXPECT_EQ(integrated_gradients(linear(), three, three, 1).error().message, "a row of 3 values does not fit 4 features");
  EXPECT_FALSE(integrated_gradients(linear(), row, three, 1));
  EXPECT_FALSE(integrated_gradients(linear(), row, row, 2));
  EXPECT_FALSE(integrated_gradients(linear(), row, row, 1, {.nodes = 33}));
  EXPECT_FALSE(expected_gradients(linear(), row, none, 1));
  EXPECT_FALSE(expected_gradients(linear(), row, row, 1, {.samples = 15}));
  EXPECT_FALSE(expected_gradients(linear(), row, row, 1, {.confidence = 1}));
}

}  // namespace
}  // namespace deepseek::explain
