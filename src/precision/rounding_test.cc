// What rounding promises: bytes and values agree, products move less than with nearest levels, threads do not matter.
#include "precision/rounding.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "formats/weights/quantize.h"

namespace deepseek::precision {
namespace {

using formats::DType;

constexpr int64_t kRows = 70, kColumns = 512;

at::Tensor seeded(std::vector<int64_t> shape, uint64_t seed) {
  std::vector<float> values;
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  uint64_t state = seed;
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;  // of 12 uniform values: close to normal
    for (int k = 0; k < 12; ++k) sum += static_cast<float>((state = state * 6364136223846793005u + 1442695040888963407u) >> 40) * 0x1p-24f;
    values.push_back(sum - 6.0f);
  }
  return at::from_blob(values.data(), shape, at::kFloat).clone();
}

// Inputs that depend on each other, as a model's do: 512 columns from 96 causes, and some noise.
at::Tensor dependent_moments() {
  const at::Tensor inputs = at::matmul(seeded({600, 96}, 5), seeded({96, kColumns}, 6)) + seeded({600, kColumns}, 7);
  return at::matmul(inputs.t(), inputs);
}

InputFactor factor_of(const at::Tensor& moments) {
  if (!moments.defined()) return {};
  auto factor = InputFactor::create(moments);
  EXPECT_TRUE(factor);
  return *factor;
}

struct Rounded {
  at::Tensor values;
  std::vector<std::byte> bytes;
};
Rounded rounded(DType type, const at::Tensor& weights, const at::Tensor& moments) {
  const MatrixRounder rounder(type, kColumns, factor_of(moments));
  Rounded out{weights.clone(), std::vector<std::byte>(static_cast<size_t>(kRows) * rounder.row_bytes())};
  rounder.round({out.values.mutable_data_ptr<float>(), static_cast<size_t>(out.values.numel())}, out.bytes);
  return out;
}

double relative_error(const at::Tensor& weights, const at::Tensor& values, const at::Tensor& moments) {
  return product_energy(values - weights, moments) / product_energy(weights, moments);
}

class EveryType : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Rounding, EveryType, ::testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(formats::dtype_name(info.param)); });

TEST_P(EveryType, BytesDecodeToTheValues) {
  const Rounded out = rounded(GetParam(), seeded({kRows, kColumns}, 1), dependent_moments());
  std::vector<float> decoded(static_cast<size_t>(kRows * kColumns));
  ASSERT_TRUE(formats::dequantize({"w", GetParam(), {kRows, kColumns}, out.bytes, 0}, decoded));
  for (size_t i = 0; i < decoded.size(); ++i) {
    // The same sum, rounded once or twice.
    ASSERT_NEAR(decoded[i], out.values.const_data_ptr<float>()[i], 4e-7f * (1 + std::abs(decoded[i])) * 8) << i;
  }
}

TEST_P(EveryType, ProductsMoveLessThanWithNearestLevels) {
  const at::Tensor weights = seeded({kRows, kColumns}, 2), moments = dependent_moments();
  const double nearest = relative_error(weights, rounded(GetParam(), weights, {}).values, moments);
  const double best = relative_error(weights, rounded(GetParam(), weights, moments).values, moments);
  EXPECT_LT(best, 0.6 * nearest) << "nearest " << nearest << ", with moments " << best;
}

TEST_P(EveryType, WithoutMomentsItIsTheNearestLevel) {
  const at::Tensor weights = seeded({kRows, kColumns}, 3);
  const Rounded out = rounded(GetParam(), weights, {});
  std::vector<std::byte> row(out.bytes.size() / kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    formats::quantize_row(GetParam(), {weights.const_data_ptr<float>() + r * kColumns, static_cast<size_t>(kColumns)}, {}, row);
    ASSERT_TRUE(std::equal(row.begin(), row.end(), out.bytes.begin() + r * static_cast<int64_t>(row.size()))) << "row " << r;
  }
}

TEST_P(EveryType, ThreadsAndCutsDoNotMatter) {
  const at::Tensor weights = seeded({kRows, kColumns}, 4), moments = dependent_moments();
  const Rounded whole = rounded(GetParam(), weights, moments);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const MatrixRounder rounder(GetParam(), kColumns, factor_of(moments));
  Rounded parts{weights.clone(), std::vector<std::byte>(whole.bytes.size())};
  auto* values = parts.values.mutable_data_ptr<float>();
  const size_t cut = 32;
  rounder.round({values, cut * kColumns}, std::span(parts.bytes).first(cut * rounder.row_bytes()));
  rounder.round({values + cut * kColumns, (kRows - cut) * kColumns}, std::span(parts.bytes).subspan(cut * rounder.row_bytes()));
  at::set_num_threads(threads);
  EXPECT_EQ(whole.bytes, parts.bytes);
}

TEST(Rounding, InputsThatNeverOccurAreNoError) {
  at::Tensor moments = at::eye(kColumns, at::kFloat);
  moments[7][7] = 0;
  const at::Tensor weights = seeded({kRows, kColumns}, 8);
  EXPECT_LT(relative_error(weights, rounded(DType::kQ4_0, weights, moments).values, {}), 0.01);
  EXPECT_LT(relative_error(weights, rounded(DType::kQ4_0, weights, moments * 0).values, {}), 0.01);
}

TEST(Rounding, MomentsThatAreNotFiniteAreRefused) {
  const auto made = InputFactor::create(at::full({64, 64}, std::numeric_limits<float>::quiet_NaN(), at::kFloat));
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, ::testing::HasSubstr("not finite"));
}

TEST(Rounding, PlainTypesRoundToNearestEven) {
  const at::Tensor weights = seeded({kRows, kColumns}, 9);
  const Rounded brain = rounded(DType::kBF16, weights, dependent_moments());
  EXPECT_TRUE(brain.values.equal(weights.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_TRUE(rounded(DType::kF32, weights, {}).values.equal(weights));
}

}  // namespace
}  // namespace deepseek::precision
