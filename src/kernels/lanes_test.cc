// Folding and exponentials of 16 lanes, as compiled for any machine; the tests of the kernels run what is compiled for AVX-512.
#include "kernels/lanes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace deepseek::kernels {
namespace {

template <int Degree>
void expect_power(double bound) {
  double worst = 0;
  for (float x = -87; x < 88; x += 0.00731f) {
    worst = std::max(worst, std::abs(power_of_e<Degree>(splat(x))[3] / std::exp(double{x}) - 1) - std::abs(x) * 0x1p-26);
  }
  EXPECT_LT(worst, bound) << "degree " << Degree;
  EXPECT_GT(worst, bound / 4) << "degree " << Degree << ": the bound says too little";
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(power_of_e<Degree>(splat(0.0f))[0], 1.0f);
  for (const float below : {-88.5f, -1e9f, -infinity}) EXPECT_EQ(power_of_e<Degree>(splat(below))[0], 0.0f) << below;
  EXPECT_TRUE(std::isnan(power_of_e<Degree>(splat(std::numeric_limits<float>::quiet_NaN()))[0]));
}

TEST(Lanes, PowersOfE) {
  expect_power<3>(0x1p-13);
  expect_power<4>(0x1p-18);
  expect_power<5>(0x1p-22);
}

TEST(Lanes, RowsFoldedTogetherAreAsOneByOne) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 50; ++round) {
    Floats rows[16];
    for (auto& row : rows) {
      for (int i = 0; i < 16; ++i) row[i] = normal(random);
    }
    const Floats sums = sum_of_each(rows), most = largest_of_each(rows);
    for (int r = 0; r < 16; ++r) {
      EXPECT_EQ(sums[r], sum(rows[r])) << "row " << r;
      EXPECT_EQ(most[r], largest(rows[r])) << "row " << r;
    }
  }
}

TEST(Lanes, PairsAreRoundedInOrder) {
  Floats a, b;
  for (int i = 0; i < 16; ++i) {
    a[i] = static_cast<float>(i) + 1.001f;
    b[i] = -static_cast<float>(i) - 100.3f;
  }
  b[5] = std::numeric_limits<float>::quiet_NaN();
  const Ints both = rounded_to_bf16(a, b);
  const Words low = rounded_to_bf16(a), high = rounded_to_bf16(b);
  for (int i = 0; i < 32; ++i) {
    const uint32_t word = static_cast<uint32_t>(both[i / 2]), half = i % 2 == 0 ? word & 0xFFFFu : word >> 16;
    EXPECT_EQ(half, (i < 16 ? low[i] : high[i - 16]) >> 16) << i;
  }
}

}  // namespace
}  // namespace deepseek::kernels
