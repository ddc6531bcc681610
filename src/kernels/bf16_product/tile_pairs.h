// 32 x 32 elements in four tile registers, over any machine with the members of AmxTiles (kernels/tiles.h): for bf16_product_amx.cc, and for the
// test's file with emulated tiles. A step of depth 32 loads four tiles for four products of 16 cycles each.
#pragma once

#include "kernels/bf16_product/bf16_product.h"
#include "kernels/lanes.h"
#include "kernels/tiles.h"

namespace deepseek::kernels {
namespace {

// Tiles 0 to 3: sums, [row half][column half]; 4, 5: rows of a; 6, 7: columns of b.
template <bool kLower, bool kRight, typename Machine>
DEEPSEEK_INLINE void tile_block(Machine& machine, const Bf16Product& p, int64_t row, int64_t column) {
  float* c = p.c + row * p.c_row + column;
  // Plain variables: what lies in memory would be read again after each instruction on tiles.
  const int64_t a_bytes = 2 * p.a_row, c_row = p.c_row, b_block = p.b_block, depth = p.depth;
  const bool add = p.add;
  const auto sums = [&](const auto& each) __attribute__((always_inline)) {
    each.template operator()<0>(c);
    if constexpr (kRight) each.template operator()<1>(c + 16);
    if constexpr (kLower) each.template operator()<2>(c + 16 * c_row);
    if constexpr (kLower && kRight) each.template operator()<3>(c + 16 * c_row + 16);
  };
  sums([&]<int Tile>(float* at) __attribute__((always_inline)) {
    if (add) machine.template load<Tile>(at, 4 * c_row);
    else machine.template zero<Tile>();
  });
  const uint16_t *a = p.a + row * p.a_row, *lower = a + 16 * p.a_row, *b = p.b + column / 16 * b_block, *right = b + b_block;
  for (int64_t k = 0; k < depth; k += kPairDepth) {
    machine.template load<4>(a + k, a_bytes);
    machine.template load<6>(b + k * 16, 64);
    machine.template multiply_bf16<0, 4, 6>();
    if constexpr (kRight) {
      machine.template load<7>(right + k * 16, 64);
      machine.template multiply_bf16<1, 4, 7>();
    }
    if constexpr (kLower) {
      machine.template load<5>(lower + k, a_bytes);
      machine.template multiply_bf16<2, 5, 6>();
      if constexpr (kRight) machine.template multiply_bf16<3, 5, 7>();
    }
  }
  sums([&]<int Tile>(float* at) __attribute__((always_inline)) { machine.template store<Tile>(at, 4 * c_row); });
}

template <bool kLower, typename Machine>
DEEPSEEK_INLINE void tile_columns(Machine& machine, const Bf16Product& p, int64_t row) {
  int64_t column = 0;
  for (; column + 32 <= p.columns; column += 32) tile_block<kLower, true>(machine, p, row, column);
  if (column < p.columns) tile_block<kLower, false>(machine, p, row, column);
}

template <typename Machine>
void multiply_on(Machine& machine, const Bf16Product& p) {
  TileShapes shapes;
  const auto configure = [&](int64_t upper, int64_t lower) {
    for (int t = 0; t < 8; ++t) shapes.set(t, t == 2 || t == 3 || t == 5 ? lower : t < 6 ? upper : 16, t == 2 || t == 3 || t == 5 ? (lower > 0 ? 64 : 0) : 64);
    machine.configure(shapes);
  };
  const int64_t whole = p.rows / 32 * 32, rest = p.rows - whole;
  if (whole > 0) configure(16, 16);
  for (int64_t row = 0; row < whole; row += 32) tile_columns<true>(machine, p, row);
  if (rest > 16) {
    configure(16, rest - 16);
    tile_columns<true>(machine, p, whole);
  } else if (rest > 0) {
    configure(rest, 0);
    tile_columns<false>(machine, p, whole);
  }
  machine.release();
}

}  // namespace
}  // namespace deepseek::kernels
