// The emulation itself, on cases worked out by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/simd.h"
#include "kernels/tiles_emulated.h"

namespace deepseek::kernels {
namespace {

TileShapes shapes(int64_t rows, int64_t depth, int64_t columns) {  // depth in bytes
  TileShapes s;
  s.set(0, rows, 4 * columns);
  s.set(1, rows, depth);
  s.set(2, depth / 4, 4 * columns);
  return s;
}

float dot(std::initializer_list<float> a, std::initializer_list<float> b, float start) {
  uint16_t left[4] = {}, right[4] = {};
  std::transform(a.begin(), a.end(), left, f32_to_bf16);
  std::transform(b.begin(), b.end(), right, f32_to_bf16);
  EmulatedTiles tiles;
  tiles.configure(shapes(1, 8, 1));
  tiles.load<0>(&start, 4);
  tiles.load<1>(left, 8);
  tiles.load<2>(right, 4);
  tiles.multiply_bf16<0, 1, 2>();
  float out = -1;
  tiles.store<0>(&out, 4);
  return out;
}

TEST(Tiles, BytesAreSignedAndQuadsOfColumns) {
  const int8_t a[2][8] = {{1, 2, 3, 4, -128, 0, 0, 127}, {0, 0, 0, 0, 1, 1, 1, 1}};
  const int8_t b[2][3][4] = {{{1, 1, 1, 1}, {-1, 0, 0, 0}, {0, 0, 0, -128}}, {{127, 9, 9, -128}, {-128, 9, 9, 127}, {0, 0, 0, 0}}};
  int32_t c[2][3] = {{1000, 0, 0}, {0, 0, 1}};
  EmulatedTiles tiles;
  tiles.configure(shapes(2, 8, 3));
  tiles.load<0>(c, 12);
  tiles.load<1>(a, 8);
  tiles.load<2>(b, 12);
  tiles.multiply_bytes<0, 1, 2>();
  tiles.store<0>(c, 12);
  const int32_t expected[2][3] = {{1000 + 10 - 128 * 127 - 128 * 127, -1 + 128 * 128 + 127 * 127, -4 * 128}, {17, 17, 1}};
  for (int m = 0; m < 2; ++m) {
    for (int n = 0; n < 3; ++n) EXPECT_EQ(c[m][n], expected[m][n]) << m << " " << n;
  }
}

TEST(Tiles, EvenAndOddPairsAreSummedApart) {
  EXPECT_EQ(dot({1, 2, 3, 4}, {5, 6, 7, 8}, 100), 170);
  // One chain would lose a 1 beside 2^24.
  EXPECT_EQ(dot({0x1p12f, 1, 0x1p12f, 1}, {0x1p12f, 1, -0x1p12f, 1}, 0), 2);
  EXPECT_EQ(dot({1, 1, 0, 0}, {1, 1, 0, 0}, 0x1p24f), 0x1p24f + 2);
}

TEST(Tiles, DenormalsAreZeroAndNanStays) {
  EXPECT_EQ(dot({1e-40f}, {1e10f}, 0), 0);
  EXPECT_EQ(dot({0x1p-70f}, {0x1p-70f}, 0), 0);
  EXPECT_EQ(dot({0}, {0}, 1e-40f), 0);
  EXPECT_TRUE(std::isnan(dot({std::numeric_limits<float>::quiet_NaN()}, {0}, 0)));
  EXPECT_TRUE(std::isnan(dot({std::numeric_limits<float>::infinity()}, {0}, 0)));
}

TEST(Tiles, WhatLiesOutsideAShapeIsLeftAlone) {
  uint8_t from[4][64], to[4][64] = {};
  std::memset(from, 7, sizeof(from));
  EmulatedTiles tiles;
  TileShapes s;
  s.set(3, 2, 8);
  tiles.configure(s);
  tiles.load<3>(from, 64);
  tiles.store<3>(to, 64);
  for (int r = 0; r < 4; ++r) {
    for (int i = 0; i < 64; ++i) EXPECT_EQ(to[r][i], r < 2 && i < 8 ? 7 : 0);
  }
}

TEST(TilesDeathTest, WhatAProcessorRefusesEndsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EmulatedTiles tiles;
  EXPECT_DEATH(tiles.zero<0>(), "not configured");
  EXPECT_DEATH(tiles.configure(shapes(17, 8, 1)), "shape of a tile");
  EXPECT_DEATH(tiles.configure(shapes(4, 6, 1)), "shape of a tile");
  TileShapes s = shapes(4, 8, 2);
  s.set(2, 3, 8);
  EXPECT_DEATH({ tiles.configure(s); (tiles.multiply_bytes<0, 1, 2>()); }, "shapes of a product");
  EXPECT_DEATH({ tiles.configure(shapes(4, 8, 2)); (tiles.multiply_bytes<0, 1, 1>()); }, "one tile twice");
}

}  // namespace
}  // namespace deepseek::kernels
