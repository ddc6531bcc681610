// Each operation against its formula in f64, its backward against autograd of that formula, on odd lengths and hostile values.
#include "kernels/elementwise/elementwise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

#include "kernels/elementwise/row.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

// Values spread over [-3, 3] without a generator: the fractional parts of multiples of the golden ratio.
at::Tensor spread(std::vector<int64_t> shape, at::ScalarType type = at::kFloat, double offset = 0) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  at::Tensor values = at::arange(n, at::kDouble) * 0.6180339887498949 + offset;
  return ((values - values.floor()) * 6 - 3).view(shape).to(type);
}

// A result of type `type` may differ by its own rounding and by the f32 arithmetic inside.
double tolerance(at::ScalarType type, const at::Tensor& expected) {
  return (type == at::kBFloat16 ? 0x1p-8 : 0x1p-20) * std::max(1e-30, expected.abs().max().item<double>());
}

void expect_close(const at::Tensor& got, const at::Tensor& expected, at::ScalarType type, double factor = 1) {
  const double difference = (got.to(at::kDouble) - expected).abs().max().item<double>();
  EXPECT_LE(difference, factor * tolerance(type, expected));
}

at::Tensor rms_reference(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one) {
  const at::Tensor scale = at::rsqrt(x.pow(2).mean(-1, true) + eps);
  return x * scale * (plus_one ? weight + 1 : weight);
}

class Types : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Elementwise, Types, ::testing::Values(at::kFloat, at::kBFloat16));

TEST_P(Types, RmsNormAndItsGradient) {
  for (const int64_t n : {1, 2, 15, 16, 17, 63, 640, 1001}) {
    for (const bool plus_one : {false, true}) {
      const at::Tensor x = spread({5, n}, GetParam()), weight = spread({n}, at::kFloat, 0.3), dy = spread({5, n}, GetParam(), 0.7);
      at::Tensor wide = x.to(at::kDouble).requires_grad_(true);
      const at::Tensor expected = rms_reference(wide, weight.to(at::kDouble), 1e-6, plus_one);
      const auto [y, rstd] = rms_norm(x, weight, 1e-6, plus_one);
      EXPECT_EQ(y.scalar_type(), GetParam());
      expect_close(y, expected.detach(), GetParam(), 2);
      torch::autograd::backward({expected}, {dy.to(at::kDouble)});
      // The gradient is a difference of two terms of this size, which cancel where a row is short.
      const double size = (rstd.max() * (weight.abs() + 1).max() * dy.abs().to(at::kFloat).max()).item<double>();
      const double difference = (rms_norm_backward(dy, x, weight, rstd, plus_one).to(at::kDouble) - wide.grad()).abs().max().item<double>();
      EXPECT_LE(difference, 8 * size * (GetParam() == at::kBFloat16 ? 0x1p-8 : 0x1p-20));
    }
  }
}

TEST_P(Types, RopeRotatesPairsAndBack) {
  for (const int64_t dim : {2, 6, 32, 64, 130, 256}) {
    const at::Tensor x = spread({7, 3, dim}, GetParam()), positions = at::arange(7, at::kLong) * 37;
    const at::Tensor frequencies = at::linspace(1.0, 0.001, dim / 2, at::kFloat);
    const at::Tensor angle = (positions.to(at::kDouble).unsqueeze(1) * frequencies.to(at::kDouble)).unsqueeze(1);
    const at::Tensor wide = x.to(at::kDouble), a = wide.narrow(2, 0, dim / 2), b = wide.narrow(2, dim / 2, dim / 2);
    const at::Tensor expected = at::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, 2);
    const at::Tensor rotated = rope(x, positions, frequencies, false);
    // The angle itself is rounded to f32: up to 222 radians, half an ulp of which is 8e-6.
    EXPECT_LE((rotated.to(at::kDouble) - expected).abs().max().item<double>(), tolerance(GetParam(), expected) + 3 * 1.6e-5);
    const at::Tensor back = rope(rotated, positions, frequencies, true);
    EXPECT_LE((back.to(at::kDouble) - wide).abs().max().item<double>(), 3 * tolerance(GetParam(), wide) + 1e-5);
  }
}

TEST_P(Types, GatedActivationsAndTheirGradients) {
  for (const int64_t n : {1, 7, 16, 33, 2048}) {
    for (const bool gelu : {false, true}) {
      const at::Tensor gate = spread({3, n}, GetParam()) * 3, up = spread({3, n}, GetParam(), 0.4), dy = spread({3, n}, GetParam(), 0.8);
      at::Tensor g = gate.to(at::kDouble).requires_grad_(true), u = up.to(at::kDouble).requires_grad_(true);
      const at::Tensor expected = (gelu ? at::gelu(g, "tanh") : g * at::sigmoid(g)) * u;
      expect_close(glu(gate, up, gelu), expected.detach(), GetParam(), 2);
      torch::autograd::backward({expected}, {dy.to(at::kDouble)});
      const auto [dgate, dup] = glu_backward(dy, gate, up, gelu);
      expect_close(dgate, g.grad(), GetParam(), 4);
      expect_close(dup, u.grad(), GetParam(), 4);
    }
  }
}

TEST_P(Types, DropoutKeepsItsShareItsScaleAndItsMask) {
  const at::Tensor x = at::ones({100'000}, GetParam());
  for (const double p : {0.1, 0.5, 0.9}) {
    const at::Tensor y = kernels::dropout(x, p, 11).to(at::kFloat);
    const double kept = (y > 0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(kept, 1 - p, 4 * std::sqrt(p * (1 - p) / 100'000));
    EXPECT_NEAR(y.max().item<double>(), 1 / (1 - p), 0x1p-8 / (1 - p));
    EXPECT_TRUE(at::equal(y, kernels::dropout(x, p, 11).to(at::kFloat)));
    EXPECT_FALSE(at::equal(y, kernels::dropout(x, p, 12).to(at::kFloat)));
  }
  EXPECT_TRUE(at::equal(kernels::dropout(x, 0.0, 5), x));
}

TEST(Elementwise, HostileRows) {
  at::Tensor x = at::zeros({4, 33});
  x[1][5] = 1e30;
  x[2] = 1e-38;
  x[3][0] = -1e-42;  // denormal
  const at::Tensor weight = at::ones({33});
  const auto [y, rstd] = rms_norm(x, weight, 1e-6, false);
  EXPECT_TRUE(at::isfinite(y[0]).all().item<bool>());
  EXPECT_EQ(y[0].abs().max().item<float>(), 0.0f);
  EXPECT_TRUE(at::isfinite(y[2]).all().item<bool>());
  EXPECT_TRUE(at::isfinite(y[3]).all().item<bool>());
  const at::Tensor large = at::ones({1, 17}) * 200.0;
  for (const double sign : {1.0, -1.0}) {
    for (const bool gelu : {false, true}) {
      EXPECT_TRUE(at::isfinite(glu(large * sign, large, gelu)).all().item<bool>());
      const auto [dgate, dup] = glu_backward(large, large * sign, large, gelu);
      EXPECT_TRUE(at::isfinite(dgate).all().item<bool>() && at::isfinite(dup).all().item<bool>());
    }
  }
}

TEST(Elementwise, FastExpIsWithinItsBound) {
  double worst = 0;
  for (int i = -870'000; i <= 880'000; i += 7) {
    const float x = static_cast<float>(i) * 1e-4f;
    worst = std::max(worst, std::abs(fast_exp(x) / std::exp(static_cast<double>(x)) - 1));
  }
  EXPECT_LT(worst, 3e-7);
  EXPECT_LT(fast_exp(-1e30f), 1e-37f);
  EXPECT_GT(fast_exp(1e30f), 1e38f);
}

TEST(Rows, LargestIsFoundWhereverItIs) {
  for (const int64_t n : {1, 15, 16, 17, 1023, 1024, 1025, 5000}) {
    std::vector<float> x(static_cast<size_t>(n), -2.0f);
    for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
      x[static_cast<size_t>(at)] = 1.0f;
      EXPECT_EQ(index_of_largest(x.data(), n), at) << n;
      EXPECT_EQ(largest(x.data(), n), 1.0f);
      x[static_cast<size_t>(at)] = -2.0f;
    }
    EXPECT_EQ(index_of_largest(x.data(), n), 0) << "the first of equals";
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp((x[static_cast<size_t>(i)] = 0.01f * static_cast<float>(i % 300)) - 3.0);
    EXPECT_NEAR(sum_of_exponentials(x.data(), 3.0f, n), sum, 1e-5 * sum);
  }
}

}  // namespace
}  // namespace deepseek::kernels
