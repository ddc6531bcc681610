// Against libtorch's softmax and its gradient in f64, with windows and groups, on odd lengths and scores of any size.
#include "kernels/causal_softmax/causal_softmax.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <limits>

namespace deepseek::kernels {
namespace {

at::Tensor spread(int64_t rows, int64_t keys, double offset, double size) {
  const at::Tensor values = at::arange(rows * keys, at::kDouble) * 0.6180339887498949 + offset;
  return ((values - values.floor() - 0.5) * 2 * size).view({rows, keys});
}

struct Case {
  int64_t positions;
  CausalSoftmaxOptions options;
};

class Softmax : public ::testing::TestWithParam<std::tuple<at::ScalarType, Case>> {};
INSTANTIATE_TEST_SUITE_P(Causal, Softmax,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16),
                                            ::testing::Values(Case{1, {1, 0, 1.0}}, Case{2, {4, 0, 0.5}}, Case{17, {1, 1, 0.1}}, Case{33, {2, 5, 0.25}},
                                                              Case{64, {3, 0, 0.06}}, Case{129, {4, 200, 0.125}}, Case{300, {1, 16, 0.25}})));

TEST_P(Softmax, ValueAndGradientEqualLibtorchInF64) {
  const auto& [type, c] = GetParam();
  const int64_t n = c.positions, rows = n * c.options.group;
  const at::Tensor scores = spread(rows, n, 0.1, 40).to(at::kFloat);
  const at::Tensor position = at::arange(rows, at::kLong).div(c.options.group, "floor").unsqueeze(1), key = at::arange(n, at::kLong).unsqueeze(0);
  at::Tensor seen = key <= position;
  if (c.options.window > 0) seen = seen & (key > position - c.options.window);
  const double never = -std::numeric_limits<double>::infinity();
  const at::Tensor expected = at::softmax(at::where(seen, scores.to(at::kDouble) * c.options.scale, never), -1);

  at::Tensor p = at::empty({rows, n}, type);
  causal_softmax(scores, c.options, p);
  const double eps = type == at::kBFloat16 ? 0x1p-8 : 40 * c.options.scale * 0x1p-22 + 1e-6;  // an exponent's error is relative in p
  EXPECT_LE((p.to(at::kDouble) - expected).abs().max().item<double>(), eps);
  EXPECT_EQ(at::where(seen, 0.0, p.to(at::kDouble)).abs().max().item<double>(), 0.0);

  at::Tensor gradient = spread(rows, n, 0.7, 1).to(type);
  const at::Tensor g = gradient.to(at::kDouble), q = p.to(at::kDouble);
  const at::Tensor want = c.options.scale * q * (g - (q * g).sum(-1, true));
  causal_softmax_backward(p, c.options, gradient);
  EXPECT_LE((gradient.to(at::kDouble) - want).abs().max().item<double>(), c.options.scale * 2 * (type == at::kBFloat16 ? 0x1p-8 : 1e-5));
}

TEST(Softmax, HugeScoresStayFinite) {
  at::Tensor p = at::empty({8, 8}, at::kFloat);
  causal_softmax(spread(8, 8, 0.3, 1e30).to(at::kFloat), {.scale = 1.0}, p);
  EXPECT_TRUE(at::isfinite(p).all().item<bool>());
  EXPECT_LE((p.sum(-1) - 1).abs().max().item<float>(), 1e-6f);
}

TEST(Softmax, RefusesWhatDoesNotFit) {
  at::Tensor p = at::empty({8, 8}, at::kFloat), wide = at::empty({8, 9}, at::kFloat);
  const at::Tensor scores = spread(8, 8, 0.3, 1).to(at::kFloat);
  EXPECT_THROW(causal_softmax(scores, {.group = 2}, p), c10::Error);
  EXPECT_THROW(causal_softmax(scores, {}, wide), c10::Error);
  EXPECT_THROW(causal_softmax(scores.to(at::kBFloat16), {}, p), c10::Error);
}

}  // namespace
}  // namespace deepseek::kernels
