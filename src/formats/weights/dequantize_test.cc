// Every quantised type against gguf-py, the 16-bit floats against every bit pattern, NaN in weights found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/random.h"
#include "formats/weights/convert.h"
#include "formats/weights/non_finite.h"

namespace deepseek::formats {
namespace {

using ::testing::HasSubstr;

uint32_t fnv(const void* data, size_t size) {
  uint32_t value = 0x811C9DC5u;
  for (size_t i = 0; i < size; ++i) value = (value ^ static_cast<const unsigned char*>(data)[i]) * 0x01000193u;
  return value;
}

std::vector<uint8_t> random_bytes(uint64_t seed, size_t count) {
  std::vector<uint8_t> out;
  for (base::SplitMix64 random{seed}; out.size() < count;) {
    const uint64_t z = random();
    for (int i = 0; i < 8 && out.size() < count; ++i) out.push_back(static_cast<uint8_t>(z >> 8 * i));
  }
  return out;
}

struct Golden {
  DType type;
  uint64_t seed;
  uint32_t hash;  // of the values that gguf-py gives, by tests/golden/dequantize.py
  std::vector<size_t> scales;
};

class Quantised : public ::testing::TestWithParam<Golden> {
 protected:
  static constexpr size_t kBlocks = 64;
  Quantised() {
    const Golden& golden = GetParam();
    const auto block = block_size(golden.type);
    bytes_ = random_bytes(golden.seed, kBlocks * static_cast<size_t>(block.bytes));
    for (size_t b = 0; b < kBlocks; ++b) {
      for (const size_t at : golden.scales) bytes_[b * static_cast<size_t>(block.bytes) + at + 1] &= 0xBF;
    }
    info_ = {"w", golden.type, {static_cast<int64_t>(kBlocks) * block.elements}, std::as_bytes(std::span(bytes_))};
  }
  std::vector<uint8_t> bytes_;
  TensorInfo info_;
};

INSTANTIATE_TEST_SUITE_P(Golden, Quantised,
                         ::testing::Values(Golden{DType::kQ4_0, 2, 0x354fbb72, {0}}, Golden{DType::kQ4_1, 3, 0xa817e6c0, {0, 2}}, Golden{DType::kQ5_0, 6, 0x535a8a4e, {0}},
                                           Golden{DType::kQ5_1, 7, 0xbb8993b9, {0, 2}}, Golden{DType::kQ8_0, 8, 0x26d8d777, {0}}, Golden{DType::kQ2_K, 10, 0x8abed84b, {80, 82}},
                                           Golden{DType::kQ3_K, 11, 0x6712d50a, {108}}, Golden{DType::kQ4_K, 12, 0x0fa9155b, {0, 2}}, Golden{DType::kQ5_K, 13, 0xf8d04fc2, {0, 2}},
                                           Golden{DType::kQ6_K, 14, 0x32294189, {208}}),
                         [](const auto& tested) { return dtype_name(tested.param.type); });

TEST_P(Quantised, EqualsGgufPyBitForBit) {
  std::vector<float> values(static_cast<size_t>(info_.elements()));
  ASSERT_TRUE(dequantize(info_, values));
  for (float& value : values) value += 0.0f;  // -0 becomes 0, as in the golden values
  EXPECT_EQ(fnv(values.data(), values.size() * sizeof(float)), GetParam().hash) << values[0] << " " << values[1];
}

TEST_P(Quantised, APartEqualsThatPartOfTheWhole) {
  const auto block = static_cast<size_t>(block_size(info_.type).elements);
  std::vector<float> whole(static_cast<size_t>(info_.elements())), part(3 * block);
  ASSERT_TRUE(dequantize(info_, whole));
  ASSERT_TRUE(dequantize_range(info_, static_cast<int64_t>(5 * block), part));
  EXPECT_EQ(std::memcmp(part.data(), whole.data() + 5 * block, part.size() * sizeof(float)), 0);
  EXPECT_THAT(dequantize_range(info_, 1, part).error().message, HasSubstr("cut a block"));
  EXPECT_THAT(dequantize_range(info_, info_.elements(), part).error().message, HasSubstr("outside"));
  EXPECT_THAT(dequantize(info_, part).error().message, HasSubstr("do not fit"));
}

TEST_P(Quantised, ANaNScaleIsFoundWithItsPlace) {
  EXPECT_TRUE(check_finite(info_));
  const auto block = block_size(info_.type);
  for (const size_t at : GetParam().scales) {
    auto broken = bytes_;
    const uint16_t nan = 0x7E00;
    std::memcpy(broken.data() + 7 * static_cast<size_t>(block.bytes) + at, &nan, 2);
    TensorInfo info = info_;
    info.bytes = std::as_bytes(std::span(broken));
    EXPECT_EQ(find_non_finite(info), 7 * block.elements);
    EXPECT_THAT(check_finite(info).error().message, HasSubstr("tensor \"w\""));
  }
}

TEST(Convert, EveryF16AndBF16ComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float from_f16 = f16_to_f32(half), from_bf16 = bf16_to_f32(half);
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(from_f16), fraction != 0);
      EXPECT_EQ(std::isinf(from_f16), fraction == 0);
    } else {
      ASSERT_EQ(from_f16, half >> 15 != 0 ? -magnitude : magnitude) << bits;
    }
    if (std::isnan(from_f16)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(from_f16))));
    } else {
      ASSERT_EQ(f32_to_f16(from_f16), half);
    }
    if (std::isnan(from_bf16)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(from_bf16))));
    } else {
      ASSERT_EQ(f32_to_bf16(from_bf16), half);
    }
  }
}

TEST(Convert, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3C00);           // half way: to even, down
  EXPECT_EQ(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02);       // half way: to even, up
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f + 0x1p-20f), 0x3C01);
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(f32_to_f16(-0x1p-25f), 0x8000);
  EXPECT_EQ(f32_to_f16(0x1p-25f + 0x1p-40f), 0x0001);
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);
  EXPECT_EQ(f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3F82);
  EXPECT_EQ(f32_to_bf16(3.4028235e38f), 0x7F80);
}

TEST(NonFinite, PlainTypesNameTheElement) {
  std::vector<float> values(10'000, 1.0f);
  TensorInfo info{"layer.weight", DType::kF32, {100, 100}, std::as_bytes(std::span(values))};
  EXPECT_TRUE(check_finite(info));
  values[8'191] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(find_non_finite(info), 8'191);
  values[0] = std::nanf("");
  EXPECT_EQ(check_finite(info).error().message,
            "tensor \"layer.weight\" of shape [100, 100] has NaN or infinity at element 0; the file is damaged or its training diverged, use another copy");
  std::vector<uint16_t> halves(9, 0x3C00);
  halves[8] = 0x7C01;
  EXPECT_EQ(find_non_finite({"h", DType::kF16, {9}, std::as_bytes(std::span(halves))}), 8);
  EXPECT_EQ(find_non_finite({"h", DType::kBF16, {9}, std::as_bytes(std::span(halves))}), std::nullopt);
  halves[3] = 0xFF80;
  EXPECT_EQ(find_non_finite({"h", DType::kBF16, {9}, std::as_bytes(std::span(halves))}), 3);
  EXPECT_EQ(find_non_finite({"i", DType::kI16, {9}, std::as_bytes(std::span(halves))}), std::nullopt);
}

TEST(Dequantize, IntegersThatAreNoWeightsAreRefused) {
  const std::vector<int64_t> values{1, 2};
  std::vector<float> out(2);
  EXPECT_THAT(dequantize({"ids", DType::kI64, {2}, std::as_bytes(std::span(values))}, out).error().message, HasSubstr("type I64 holds no weights"));
  EXPECT_THAT(dequantize({"w", DType::kF32, {2}, std::as_bytes(std::span(values)).first(4)}, out).error().message, HasSubstr("do not match"));
}

}  // namespace
}  // namespace deepseek::formats
