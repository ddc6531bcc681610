// The chunked loss against log_softmax in f64, its gradient against autograd, and what the filter of small gradients costs.
#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace deepseek::kernels {
namespace {

at::Tensor spread(std::vector<int64_t> shape, at::ScalarType type, double offset, double size) {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  at::Tensor values = at::arange(n, at::kDouble) * 0.6180339887498949 + offset;
  return ((values - values.floor() - 0.5) * 2 * size).view(shape).to(type);
}

struct Case {
  at::Tensor hidden, head, targets, weights;
};

Case make(int64_t rows, int64_t vocabulary, int64_t width, at::ScalarType type, double size) {
  Case out{spread({rows, width}, type, 0.1, size), spread({vocabulary, width}, type, 0.6, 1.0), at::empty({rows}, at::kLong), spread({rows}, at::kFloat, 0.2, 1.0).abs()};
  for (int64_t i = 0; i < rows; ++i) out.targets[i] = (i * 7919 + 3) % vocabulary;
  return out;
}

struct Expected {
  at::Tensor losses, gradient;
};

Expected reference(const Case& c, double softcap) {
  at::Tensor hidden = c.hidden.to(at::kDouble).requires_grad_(true);
  at::Tensor logits = at::matmul(hidden, c.head.to(at::kDouble).t());
  if (softcap > 0) logits = (logits / softcap).tanh() * softcap;
  const at::Tensor losses = -at::log_softmax(logits, -1).gather(1, c.targets.unsqueeze(1)).squeeze(1);
  torch::autograd::backward({(losses * c.weights.to(at::kDouble)).sum()}, {});
  return {losses.detach(), hidden.grad()};
}

class Shapes : public ::testing::TestWithParam<std::tuple<at::ScalarType, int64_t, int64_t, double>> {};
INSTANTIATE_TEST_SUITE_P(CrossEntropy, Shapes,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16), ::testing::Values(1, 127, 128, 129, 300),
                                            ::testing::Values(2, 17, 2047, 2049), ::testing::Values(0.0, 5.0)));

TEST_P(Shapes, LossesAndGradientEqualAutograd) {
  const auto& [type, rows, vocabulary, softcap] = GetParam();
  const Case c = make(rows, vocabulary, 24, type, 1.0);
  const Expected expected = reference(c, softcap);
  const auto result = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.softcap = softcap});
  // A logit is a sum of 24 products, rounded to `type` once; a loss moves by at most twice that.
  const double logit = at::matmul(c.hidden.abs().to(at::kDouble), c.head.abs().to(at::kDouble).t()).max().item<double>();
  const double eps = type == at::kBFloat16 ? 0x1p-8 : 24 * 0x1p-23;
  EXPECT_LE((result.losses.to(at::kDouble) - expected.losses).abs().max().item<double>(), 2 * eps * logit + 1e-5);
  const double size = c.head.abs().sum(0).max().item<double>();  // the gradient is a sum of p times rows of the head
  const double bound = (4 * eps * logit + 1e-5) * std::max(1.0, size * 2 / static_cast<double>(vocabulary)) * 4;
  EXPECT_LE((result.hidden_gradient.to(at::kDouble) - expected.gradient).abs().max().item<double>(), bound);
}

TEST(CrossEntropy, TheFilterDropsOnlyWhatCannotMatter) {
  // Peaked rows, as a trained model has them: nearly all of the vocabulary is below the threshold.
  const Case c = make(64, 20'000, 48, at::kFloat, 6.0);
  const auto all = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 0});
  const auto filtered = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 1e-5f});
  EXPECT_EQ(all.share_of_vocabulary, 1.0);
  EXPECT_LT(filtered.share_of_vocabulary, 0.5);
  EXPECT_TRUE(at::equal(all.losses, filtered.losses));
  // At most 20,000 * 1e-5 of the probability is left out, each times a row of values up to 1.
  EXPECT_LE((all.hidden_gradient - filtered.hidden_gradient).abs().max().item<double>(), 20'000 * 1e-5);
  EXPECT_LE(((all.hidden_gradient - filtered.hidden_gradient).norm() / all.hidden_gradient.norm()).item<double>(), 0.01);
}

TEST(CrossEntropy, WeightsOfZeroRowsAndNoRows) {
  Case c = make(5, 100, 8, at::kFloat, 1.0);
  c.weights[2] = 0;
  const auto result = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true);
  EXPECT_EQ(result.hidden_gradient[2].abs().max().item<float>(), 0.0f);
  const auto none = linear_cross_entropy(c.hidden.narrow(0, 0, 0), c.head, c.targets.narrow(0, 0, 0), {}, true);
  EXPECT_EQ(none.losses.numel(), 0);
}

TEST(CrossEntropy, OtherRowsDoNotChangeARow) {
  const Case c = make(700, 3000, 16, at::kFloat, 2.0);
  const auto all = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 0});
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1}, {130, 33}, {500, 200}}) {
    const auto some = linear_cross_entropy(c.hidden.narrow(0, begin, count), c.head, c.targets.narrow(0, begin, count),
                                           c.weights.narrow(0, begin, count), true, {.min_probability = 0});
    EXPECT_LE((some.losses - all.losses.narrow(0, begin, count)).abs().max().item<double>(), 1e-5);
    EXPECT_LE((some.hidden_gradient - all.hidden_gradient.narrow(0, begin, count)).abs().max().item<double>(), 1e-5);
  }
}

TEST(CrossEntropy, FlatRowsKeepAllOfTheVocabulary) {
  // Each word has a probability of 2e-5 or so, below the threshold: leaving them out would leave out the gradient.
  const Case c = make(130, 50'000, 8, at::kFloat, 0.01);
  const auto filtered = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 1e-4f});
  EXPECT_EQ(filtered.share_of_vocabulary, 1.0);
  const auto all = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 0});
  EXPECT_TRUE(at::equal(filtered.hidden_gradient, all.hidden_gradient));
}

TEST(CrossEntropy, MoreWordsThanAreCopiedAtOnce) {
  const Case c = make(1, 40'000, 8, at::kFloat, 1.0);
  const auto filtered = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 5e-6f});
  EXPECT_GT(filtered.share_of_vocabulary, 0.5);
  EXPECT_LT(filtered.share_of_vocabulary, 1.0);
  const auto all = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true, {.min_probability = 0});
  // What is left out has less than 5e-6 a word, each times a row of values up to 1.
  EXPECT_LE((all.hidden_gradient - filtered.hidden_gradient).abs().max().item<double>(), (1 - filtered.share_of_vocabulary) * 40'000 * 5e-6);
}

TEST(CrossEntropy, ThreadsDoNotChangeIt) {
  const Case c = make(300, 5000, 16, at::kBFloat16, 3.0);
  const int before = at::get_num_threads();
  const auto many = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true);
  at::set_num_threads(1);
  const auto one = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.losses, many.losses));
}

TEST(CrossEntropy, HugeLogitsStayFinite) {
  Case c = make(4, 50, 8, at::kFloat, 1.0);
  c.hidden.mul_(1e4);
  const auto result = linear_cross_entropy(c.hidden, c.head, c.targets, c.weights, true);
  EXPECT_TRUE(at::isfinite(result.losses).all().item<bool>());
  EXPECT_TRUE(at::isfinite(result.hidden_gradient).all().item<bool>());
}

TEST(CrossEntropy, RefusesWhatDoesNotFit) {
  const Case c = make(4, 50, 8, at::kFloat, 1.0);
  EXPECT_THROW((void)linear_cross_entropy(c.hidden, c.head.narrow(1, 0, 7), c.targets, c.weights, true), c10::Error);
  EXPECT_THROW((void)linear_cross_entropy(c.hidden, c.head.to(at::kBFloat16), c.targets, c.weights, true), c10::Error);
  EXPECT_THROW((void)linear_cross_entropy(c.hidden, c.head, c.targets.narrow(0, 0, 3), c.weights, true), c10::Error);
  EXPECT_THROW((void)linear_cross_entropy(c.hidden, c.head, c.targets + 50, c.weights, true), c10::Error);
  EXPECT_THROW((void)linear_cross_entropy(c.hidden, c.head, c.targets - 50, c.weights, true), c10::Error);
}

}  // namespace
}  // namespace deepseek::kernels
