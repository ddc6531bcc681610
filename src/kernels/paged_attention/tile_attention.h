// Attention to four tiles of keys on tile registers, over any machine with the members of AmxTiles (kernels/tiles.h): for paged_attention_amx.cc, and
// for the test's file with emulated tiles.
//
// For 16 queries of 128 dimensions 64 keys cost 16 tile products for its scores and 16 for its values, 16 cycles each, where AVX-512 takes
// 2048 dot products of pairs: by counting, a third to a quarter of the time together with the softmax between them.
#pragma once

#include "kernels/lanes.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/tiles.h"

namespace deepseek::kernels {
namespace {

constexpr int kTiles = KeyTiles::kMost, kKeys = kTiles * static_cast<int>(kKeyTile);

// Slots of each key tile that each query reads, [from, to), and what all of them read together.
struct SeenSlots {
  int32_t from[kTiles][QueryTile::kMost], to[kTiles][QueryTile::kMost], lowest[kTiles], highest[kTiles];

  [[gnu::always_inline]] SeenSlots(const KeyTiles& keys, const QueryTile& tile) {
    for (int i = 0; i < kTiles; ++i) {
      lowest[i] = kKeyTile;
      highest[i] = 0;
      for (int64_t t = 0; t < tile.count && i < keys.count; ++t) {
        const int64_t first = tile.first[t] - keys.positions[i], after = tile.last[t] - keys.positions[i] + 1;
        const bool reads = (keys.readers[i] >> t & 1u) != 0;
        from[i][t] = static_cast<int32_t>(first > 0 ? first : 0);
        to[i][t] = static_cast<int32_t>(!reads ? 0 : after < kKeyTile ? after : kKeyTile);
        if (from[i][t] >= to[i][t]) continue;
        lowest[i] = from[i][t] < lowest[i] ? from[i][t] : lowest[i];
        highest[i] = to[i][t] > highest[i] ? to[i][t] : highest[i];
      }
    }
  }
  [[gnu::always_inline]] bool whole(int i) const { return lowest[i] <= 0 && highest[i] >= kKeyTile; }
};

// scores: [4 key tiles][16 queries][16 positions]. Tiles 0 to 3 are sums, one for each key tile; 4 queries, 5 keys.
template <int Dims, typename Machine>
DEEPSEEK_INLINE void score_keys(Machine& machine, const KeyTiles& keys, int64_t width, const QueryTile& tile, float* scores) {
  TileShapes shapes;
  for (int t = 0; t < kTiles; ++t) shapes.set(t, tile.count, 64);
  shapes.set(4, tile.count, 2 * Dims);
  shapes.set(5, Dims / 2, 64);
  machine.configure(shapes);
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

// cap * tanh(x / cap) = cap * (1 - 2 / (e^(2x / cap) + 1))
DEEPSEEK_INLINE Floats capped(Floats x, float cap) {
  const Floats y = x * (2.0f / cap), limit = splat(40.0f);
  return cap * (1.0f - 2.0f / (exponential(y > limit ? limit : y) + 1.0f));
}

// What a query sees of a key tile: its scores, and -inf elsewhere.
DEEPSEEK_INLINE Floats seen_scores(Floats scores, int32_t from, int32_t to, float softcap) {
  const Ints slots = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  if (softcap > 0) scores = capped(scores, softcap);
  return slots >= from && slots < to ? scores : splat(-__builtin_inff());
}

// The online softmax of query t: its weights as bf16, zero where there is no key; returns the factor by which its earlier results shrink.
DEEPSEEK_INLINE float weigh_scores(const float* scores, const KeyTiles& keys, const SeenSlots& seen, float softcap, int64_t t, QueryTile& tile,
                                   uint16_t (&weights)[kKeys]) {
  __builtin_memset(weights, 0, sizeof(weights));
  Floats s[kTiles], most = splat(tile.best[t]);
  for (int i = 0; i < keys.count; ++i) {
    s[i] = seen_scores(load<Floats>(scores + (i * 16 + t) * 16), seen.from[i][t], seen.to[i][t], softcap);
    most = larger(most, s[i]);
  }
  const float best = largest(most), old = tile.best[t], keep = old == best ? 1.0f : exponential(splat(old - best))[0];
  Floats total = splat(0.0f);
  for (int i = 0; i < keys.count; ++i) {
    const Words rounded = rounded_to_bf16(s[i] == -__builtin_inff() ? splat(0.0f) : exponential(s[i] - best));
    total += (Floats)rounded;
    const auto halves = __builtin_convertvector(rounded >> 16, Halves);
    __builtin_memcpy(weights + i * kKeyTile, &halves, sizeof(halves));
  }
  tile.sum[t] = tile.sum[t] * keep + sum(total);
  tile.best[t] = best;
  return keep;
}

// Values of two key tiles, [16 pairs of slots][width][2]. They are copied where the second does not follow the first in memory, and what no
// query sees becomes zeros, since it may be NaN of an earlier sequence, which a weight of 0 does not hide.
struct ValueBlock {
  const uint16_t* from[2];
  int64_t width;
  bool whole;
  uint32_t seen[16];  // bits of a pair
  alignas(64) uint32_t clean[16][16];

  [[gnu::always_inline]] ValueBlock(const KeyTiles& keys, int64_t row, int tile, const SeenSlots& slots) : from{}, width(row), whole(false) {
    if (tile >= keys.count) return;
    const bool two = tile + 1 < keys.count;
    from[0] = keys.values[tile];
    from[1] = keys.values[two ? tile + 1 : tile];
    whole = two && from[1] == from[0] + kKeyTile * width && slots.whole(tile) && slots.whole(tile + 1);
    for (int32_t i = 0; i < 16 && !whole; ++i) {
      const int32_t slot = i % 8 * 2, of = tile + i / 8, low = slots.lowest[of], high = slots.highest[of];
      seen[i] = (slot >= low && slot < high ? 0x0000FFFFu : 0) | (slot + 1 >= low && slot + 1 < high ? 0xFFFF0000u : 0);
    }
  }
  template <int Tile, typename Machine>
  [[gnu::always_inline]] void load_dims(Machine& machine, int64_t d) {
    if (whole) return machine.template load<Tile>(from[0] + 2 * d, 4 * width);
    for (int64_t i = 0; i < 16; ++i) store(clean[i], load<Words>(from[i / 8] + 2 * (i % 8 * width + d)) & seen[i]);
    machine.template load<Tile>(clean, 64);
  }
};

DEEPSEEK_INLINE void shrink(float keep, int64_t width, float* out) {
  if (keep == 1.0f) return;
  for (int64_t d = 0; d < width; d += 16) store(out + d, load<Floats>(out + d) * keep);
}

// out += p v, 16 dimensions after the other. Tiles 0 and 1 are sums in turn; 2 and 3 weights of 32 slots each; 4 to 7 values.
template <int Sum, typename Machine>
DEEPSEEK_INLINE void weigh_dims(Machine& machine, ValueBlock (&values)[2], bool high, int64_t width, int64_t d, float* out) {
  machine.template load<Sum>(out + d, 4 * width);
  values[0].template load_dims<4 + 2 * Sum>(machine, d);
  machine.template multiply_bf16<Sum, 2, 4 + 2 * Sum>();
  if (high) {
    values[1].template load_dims<5 + 2 * Sum>(machine, d);
    machine.template multiply_bf16<Sum, 3, 5 + 2 * Sum>();
  }
  machine.template store<Sum>(out + d, 4 * width);
}

template <typename Machine>
DEEPSEEK_INLINE void weigh_values(Machine& machine, const KeyTiles& keys, int64_t width, const SeenSlots& seen, const uint16_t (*p)[kKeys], QueryTile& tile) {
  TileShapes shapes;
  for (int t = 0; t < 4; ++t) shapes.set(t, tile.count, 64);
  for (int t = 4; t < 8; ++t) shapes.set(t, 16, 64);
  machine.configure(shapes);
  const bool high = keys.count > 2;
  ValueBlock blocks[2] = {{keys, width, 0, seen}, {keys, width, 2, seen}};
  machine.template load<2>(&p[0][0], 2 * kKeys);
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
  alignas(64) uint16_t weights[16][kKeys];
  if (width % 32 == 0) score_keys<32>(machine, keys, width, tile, scores);
  else score_keys<16>(machine, keys, width, tile, scores);
  for (int64_t t = 0; t < tile.count; ++t) {
    shrink(weigh_scores(scores, keys, seen, softcap, t, tile, weights[t]), width, tile.out + t * width);
  }
  weigh_values(machine, keys, width, seen, weights, tile);
  machine.release();
}

}  // namespace
}  // namespace deepseek::kernels
