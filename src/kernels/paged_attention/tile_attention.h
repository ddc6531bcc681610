// Attention to four tiles of keys on tile registers, over any machine with the members of AmxTiles (kernels/tiles.h): for paged_attention_amx.cc, and
// for the test's file with emulated tiles.
//
// For 16 queries of 64 dimensions 64 keys cost 8 tile products for their scores and 8 for their values, 16 cycles each. All the rest, the softmax
// above all, takes about 800 cycles (measured without the tiles' instructions), so that it decides.
#pragma once

#include "kernels/lanes.h"
#include "kernels/paged_attention/tile_softmax.h"
#include "kernels/tiles.h"

namespace deepseek::kernels {
namespace {

// Tiles 0 to 3 have rows of sums (3 also of weights), 4 of queries or weights; 5 and 6 have what these are multiplied with, `depth` of it.
[[gnu::always_inline]] inline TileShapes shapes_of(int64_t queries, int64_t depth) {
  TileShapes shapes;
  for (int t = 0; t < 4; ++t) shapes.set(t, queries, 64);
  shapes.set(4, queries, 2 * depth);
  for (int t = 5; t < 7; ++t) shapes.set(t, depth / 2, 64);
  return shapes;
}

// scores: [4 key tiles][16 queries][16 positions], each summed up in a tile of its own.
template <int Dims, typename Machine>
DEEPSEEK_INLINE void score_keys(Machine& machine, const KeyTiles& keys, int64_t width, const QueryTile& tile, float* scores) {
  machine.configure(shapes_of(tile.count, Dims));
  const auto each = [&](const auto& body) __attribute__((always_inline)) {
    body.template operator()<0>();
    if (keys.count > 1) body.template operator()<1>();
    if (keys.count > 2) body.template operator()<2>();
    if (keys.count > 3) body.template operator()<3>();
  };
  // The tiles are zero after configure().
  for (int64_t d = 0; d < width; d += Dims) {
    machine.template load<4>(tile.q + d, 2 * width);
    each([&]<int Tile>() __attribute__((always_inline)) {
      machine.template load<5>(keys.keys[Tile] + d * kKeyTile, 64);
      machine.template multiply_bf16<Tile, 4, 5>();
    });
  }
  each([&]<int Tile>() __attribute__((always_inline)) { machine.template store<Tile>(scores + Tile * 256, 64); });
}

// Values of two key tiles, [16 pairs of slots][width][2]. They are copied where the second does not follow the first in memory, and what no
// query sees becomes zeros, since it may be NaN of an earlier sequence, which a weight of 0 does not hide.
struct ValueBlock {
  const uint16_t* from[2];
  int64_t width;
  bool whole, all;
  uint32_t seen[16];  // bits of a pair, where not all are
  alignas(64) uint32_t clean[16][16];

  [[gnu::always_inline]] ValueBlock(const KeyTiles& keys, int64_t row, int tile, const SeenSlots& slots) : from{}, width(row), whole(false), all(slots.all) {
    if (tile >= keys.count) return;
    const bool two = tile + 1 < keys.count;
    from[0] = keys.values[tile];
    from[1] = keys.values[two ? tile + 1 : tile];
    whole = two && from[1] == from[0] + kKeyTile * width && slots.whole(tile) && slots.whole(tile + 1);
    all = all && two;
    for (int32_t i = 0; i < 16 && !whole && !all; ++i) {
      const int32_t slot = i % 8 * 2, of = tile + i / 8, low = slots.lowest[of], high = slots.highest[of];
      seen[i] = (slot >= low && slot < high ? 0x0000FFFFu : 0) | (slot + 1 >= low && slot + 1 < high ? 0xFFFF0000u : 0);
    }
  }
  template <int Tile, typename Machine>
  [[gnu::always_inline]] void load_dims(Machine& machine, int64_t d) {
    if (whole) return machine.template load<Tile>(from[0] + 2 * d, 4 * width);
    for (int64_t tile = 0; tile < 2; ++tile) {
      const uint16_t* at = from[tile] + 2 * d;
#pragma GCC unroll 8
      for (int64_t i = 0; i < 8; ++i, at += 2 * width) store(clean[8 * tile + i], all ? load<Words>(at) : load<Words>(at) & seen[8 * tile + i]);
    }
    machine.template load<Tile>(clean, 64);
  }
};

DEEPSEEK_INLINE void shrink(float keep, int64_t width, float* out) {
  if (keep == 1.0f) return;
  for (int64_t d = 0; d < width; d += 16) store(out + d, load<Floats>(out + d) * keep);
}

// out += p v, 16 dimensions after the other. Tiles 0 and 1 are sums in turn; 4 and 3 weights of 32 slots each; 5 and 6 their values.
template <int Sum, typename Machine>
DEEPSEEK_INLINE void weigh_dims(Machine& machine, ValueBlock (&values)[2], bool high, int64_t width, int64_t d, float* out) {
  machine.template load<Sum>(out + d, 4 * width);
  values[0].template load_dims<5>(machine, d);
  machine.template multiply_bf16<Sum, 4, 5>();
  if (high) {
    values[1].template load_dims<6>(machine, d);
    machine.template multiply_bf16<Sum, 3, 6>();
  }
  machine.template store<Sum>(out + d, 4 * width);
}

template <typename Machine>
DEEPSEEK_INLINE void weigh_values(Machine& machine, const KeyTiles& keys, int64_t width, const SeenSlots& seen, const uint16_t (*p)[kKeys], QueryTile& tile) {
  const bool high = keys.count > 2;
  ValueBlock blocks[2] = {{keys, width, 0, seen}, {keys, width, 2, seen}};
  machine.template load<4>(&p[0][0], 2 * kKeys);
  if (high) machine.template load<3>(&p[0][32], 2 * kKeys);
  for (int64_t d = 0; d < width; d += 32) {
    weigh_dims<0>(machine, blocks, high, width, d, tile.out);
    if (d + 16 < width) weigh_dims<1>(machine, blocks, high, width, d + 16, tile.out);
  }
}

/// tile.q: rows.
template <typename Machine>
void attend_on(Machine& machine, const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  const SeenSlots seen(keys, tile);
  alignas(64) float scores[kTiles * 256];
  alignas(64) uint16_t weights[kMost][kKeys];
  alignas(64) float keep[kMost];
  if (width % 32 == 0) score_keys<32>(machine, keys, width, tile, scores);
  else score_keys<16>(machine, keys, width, tile, scores);
  weigh_scores(scores, keys, seen, softcap, tile, weights, keep);
  for (int64_t t = 0; t < tile.count; ++t) shrink(keep[t], width, tile.out + t * width);
  if (width % 32 != 0) machine.configure(shapes_of(tile.count, 32));
  weigh_values(machine, keys, width, seen, weights, tile);
  machine.release();
}

}  // namespace
}  // namespace deepseek::kernels
