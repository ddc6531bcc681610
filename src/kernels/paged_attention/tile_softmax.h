// The online softmax of a tile of queries over up to 64 keys, which stands between the products with keys and those with values: for kernels with 16
// scores of a query side by side.
#pragma once

#include "kernels/lanes.h"
#include "kernels/paged_attention/paged_attention.h"

namespace deepseek::kernels {
namespace {

constexpr int kTiles = KeyTiles::kMost, kKeys = kTiles * static_cast<int>(kKeyTile), kMost = static_cast<int>(QueryTile::kMost);
constexpr int64_t kFewRows = 4;  // queries that are faster folded one by one

// Slots of each key tile that each query reads, [from, to), and what all of them read together.
struct SeenSlots {
  bool all;  // every query reads every slot; from and to are not set then
  int32_t from[kTiles][kMost], to[kTiles][kMost], lowest[kTiles], highest[kTiles];

  [[gnu::always_inline]] SeenSlots(const KeyTiles& keys, const QueryTile& tile) {
    const uint32_t everyone = (1u << tile.count) - 1;
    all = tile.first[tile.count - 1] <= keys.positions[0] && tile.last[0] >= keys.positions[keys.count - 1] + kKeyTile - 1;
    for (int i = 0; i < keys.count; ++i) all = all && (keys.readers[i] & everyone) == everyone;
    for (int i = 0; i < kTiles; ++i) {
      const bool whole = all && i < keys.count;
      lowest[i] = whole ? 0 : static_cast<int32_t>(kKeyTile);
      highest[i] = whole ? static_cast<int32_t>(kKeyTile) : 0;
    }
    for (int i = 0; i < keys.count && !all; ++i) {
      for (int64_t t = 0; t < tile.count; ++t) {
        const int64_t first = tile.first[t] - keys.positions[i], after = tile.last[t] - keys.positions[i] + 1;
        const bool reads = (keys.readers[i] >> t & 1u) != 0;
        from[i][t] = static_cast<int32_t>(first < 0 ? 0 : first < kKeyTile ? first : kKeyTile);
        to[i][t] = static_cast<int32_t>(!reads || after < 0 ? 0 : after < kKeyTile ? after : kKeyTile);
        if (from[i][t] >= to[i][t]) continue;
        lowest[i] = from[i][t] < lowest[i] ? from[i][t] : lowest[i];
        highest[i] = to[i][t] > highest[i] ? to[i][t] : highest[i];
      }
    }
  }
  [[gnu::always_inline]] bool whole(int i) const { return lowest[i] <= 0 && highest[i] >= kKeyTile; }
};

// cap * tanh(x / cap) = cap * (1 - 2 / (e^(2x / cap) + 1))
DEEPSEEK_INLINE Floats capped(Floats x, float cap) {
  const Floats y = x * (2.0f / cap), limit = splat(40.0f);
  return cap * (1.0f - 2.0f / (power_of_e<5>(y > limit ? limit : y) + 1.0f));
}

// What a query sees of a key tile: its scores, and -inf elsewhere.
DEEPSEEK_INLINE Floats seen_scores(Floats scores, int32_t from, int32_t to) {
  const Ints slots = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return slots >= from && slots < to ? scores : splat(-__builtin_inff());
}

DEEPSEEK_INLINE void put_weights(Floats a, Floats b, uint16_t* to) { store(to, rounded_to_bf16(a, b)); }
DEEPSEEK_INLINE void put_weights(Floats a, Floats b, float* to) {
  store(to, a);
  store(to + 16, b);
}

// The weights of one query, e^(score - shift), and lanes of their sum. scores: of tile i at i * stride.
template <typename Weight>
DEEPSEEK_INLINE Floats weigh_row(const float* scores, int64_t stride, int tiles, Floats shift, Weight* weights) {
  constexpr int kDegree = sizeof(Weight) == 2 ? 3 : 4;
  Floats total = splat(0.0f);
  const auto weight = [&](int i) __attribute__((always_inline)) { return power_of_e<kDegree>(load<Floats>(scores + i * stride) - shift); };
  const auto pair = [&](int i, bool two) __attribute__((always_inline)) {
    const Floats a = weight(i), b = two ? weight(i + 1) : splat(0.0f);
    put_weights(a, b, weights + i * kKeyTile);
    total += a;  // one by one, so that it does not matter with which other tile a tile is called
    total += b;
  };
  pair(0, tiles > 1);
  if (tiles > 2) pair(2, tiles > 3);
  return total;
}
DEEPSEEK_INLINE Floats largest_of_row(const float* scores, int64_t stride, int tiles) {
  Floats most = load<Floats>(scores);
  for (int i = 1; i < tiles; ++i) most = larger(most, load<Floats>(scores + i * stride));
  return most;
}
// A query that has seen nothing yet keeps nothing; where nothing was larger it keeps all (-inf - -inf would be NaN).
DEEPSEEK_INLINE Floats kept(Floats old, Floats now) { return old == now ? splat(1.0f) : power_of_e<5>(old - now); }
DEEPSEEK_INLINE Floats finite_shift(Floats best) { return best == -__builtin_inff() ? splat(0.0f) : best; }

// Scores become weights, zero where a query does not read; an odd number of key tiles is followed by one of zeros. scores: query t's of key tile
// i at (i * 16 + t) * 16. keep: by what the earlier results of each query shrink. Weights of bf16 are within 2^-13 before they are rounded,
// which is 2^-9; their sum is that of the unrounded ones.
template <typename Weight>
DEEPSEEK_INLINE void weigh_scores(float* scores, const KeyTiles& keys, const SeenSlots& seen, float softcap, QueryTile& tile, Weight (*weights)[kKeys], float (&keep)[kMost]) {
  constexpr int64_t kStride = kMost * 16;
  const int64_t queries = tile.count;
  if (softcap > 0 || !seen.all) {
    for (int i = 0; i < keys.count; ++i) {
      for (int64_t t = 0; t < queries; ++t) {
        float* at = scores + i * kStride + t * 16;
        Floats s = load<Floats>(at);
        if (softcap > 0) s = capped(s, softcap);
        store(at, seen.all ? s : seen_scores(s, seen.from[i][t], seen.to[i][t]));
      }
    }
  }
  if (queries <= kFewRows) {
    for (int64_t t = 0; t < queries; ++t) {
      const float* row = scores + t * 16;
      const float old = tile.best[t], best = largest(larger(splat(old), largest_of_row(row, kStride, keys.count)));
      keep[t] = kept(splat(old), splat(best))[0];
      tile.best[t] = best;
      tile.sum[t] = __builtin_fmaf(tile.sum[t], keep[t], sum(weigh_row(row, kStride, keys.count, finite_shift(splat(best)), weights[t])));
    }
    return;
  }
  Floats rows[kMost];
  for (int64_t t = 0; t < kMost; ++t) rows[t] = t < queries ? largest_of_row(scores + t * 16, kStride, keys.count) : splat(0.0f);
  alignas(64) float best[kMost] = {}, shift[kMost], sums[kMost];
  for (int64_t t = 0; t < queries; ++t) best[t] = tile.best[t];
  const Floats old = load<Floats>(best), now = larger(old, largest_of_each(rows));
  store(best, now);
  store(keep, kept(old, now));
  store(shift, finite_shift(now));
  for (int64_t t = 0; t < queries; ++t) rows[t] = weigh_row(scores + t * 16, kStride, keys.count, splat(shift[t]), weights[t]);
  store(sums, sum_of_each(rows));
  for (int64_t t = 0; t < queries; ++t) {
    tile.best[t] = best[t];
    tile.sum[t] = __builtin_fmaf(tile.sum[t], keep[t], sums[t]);  // said, so that both ways round alike
  }
}

}  // namespace
}  // namespace deepseek::kernels
