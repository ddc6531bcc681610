// AVX-512: scores of 16 keys, or 16 dimensions of the result, in the lanes of a register. Products of pairs, or of their halves widened to f32 where
// there is no AVX-512 BF16 or where it is the slower one.
#include <immintrin.h>

#include "kernels/paged_attention/implementations.h"

namespace deepseek::kernels {
namespace {

constexpr int kTiles = KeyTiles::kMost, kKeys = kTiles * static_cast<int>(kKeyTile), kMost = static_cast<int>(QueryTile::kMost);

// e^x for x <= 88, as fast_exp in simd.h; NaN stays NaN.
__m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x));
  __m512 p = _mm512_set1_ps(1.38888889e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.33333333e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.16666667e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.66666667e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// cap * tanh(x / cap) = cap * (1 - 2 / (e^(2x / cap) + 1))
__m512 capped(__m512 x, float cap) {
  const __m512 limit = _mm512_set1_ps(40.0f), one = _mm512_set1_ps(1.0f);
  __m512 y = _mm512_mul_ps(x, _mm512_set1_ps(2.0f / cap));
  y = _mm512_min_ps(limit, y);
  const __m512 e = exponential(y);
  return _mm512_mul_ps(_mm512_set1_ps(cap), _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(e, one))));
}

// Pairs as they are. Queries and weights stay bf16.
struct Bf16Pairs {
  using Cells = __m512bh;
  using Half = uint16_t;
  static constexpr int64_t kDims = int64_t{1} << 40;  // read from the tile itself
  static Cells cells(__m512i pairs) { return (__m512bh)pairs; }
  static __m512 add(__m512 sum, Cells cells, const Half* two) {
    int32_t both;
    __builtin_memcpy(&both, two, 4);
    return _mm512_dpbf16_ps(sum, cells, (__m512bh)_mm512_set1_epi32(both));
  }
};

// Both halves as f32; so are the queries and the weights.
struct WidePairs {
  struct Cells {
    __m512 low, high;
  };
  using Half = float;
  static constexpr int64_t kDims = 256;  // of 16 queries: 16 KiB
  static Cells cells(__m512i pairs) { return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))}; }
  static __m512 add(__m512 sum, const Cells& cells, const Half* two) { return _mm512_fmadd_ps(cells.high, _mm512_set1_ps(two[1]), _mm512_fmadd_ps(cells.low, _mm512_set1_ps(two[0]), sum)); }
};

// scores[tile][query] (+)=: Side key tiles side by side, so that few queries fill the registers too.
template <typename Pairs, int Queries, int Side>
void score(const uint16_t* const* keys, int64_t from, const typename Pairs::Half* q, int64_t width, __m512 (*scores)[Queries]) {
  __m512 sum[Side][Queries];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) sum[s][t] = from == 0 ? _mm512_setzero_ps() : scores[s][t];
  }
  for (int64_t d = 0; d < width; d += 2, q += 2 * Queries) {
    typename Pairs::Cells cells[Side];
#pragma GCC unroll 4
    for (int s = 0; s < Side; ++s) cells[s] = Pairs::cells(_mm512_loadu_si512(keys[s] + (from + d) * kKeyTile));
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) {
#pragma GCC unroll 4
      for (int s = 0; s < Side; ++s) sum[s][t] = Pairs::add(sum[s][t], cells[s], q + 2 * t);
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) scores[s][t] = sum[s][t];
  }
}

void widen(const uint16_t* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += 16) {  // count: a multiple of 16
    const __m512i halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    _mm512_storeu_ps(to + i, _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16)));
  }
}

template <typename Pairs, int Queries, int Side>
void score_all(const uint16_t* const* keys, int count, const uint16_t* q, int64_t width, __m512 (*scores)[Queries]) {
  if constexpr (sizeof(typename Pairs::Half) == 2) {
    for (int i = 0; i < count; i += Side) score<Pairs, Queries, Side>(keys + i, 0, q, width, scores + i);
  } else {
    alignas(64) float wide[Queries * Pairs::kDims];
    for (int64_t from = 0; from < width; from += Pairs::kDims) {
      const int64_t dims = width - from < Pairs::kDims ? width - from : Pairs::kDims;
      widen(q + from * Queries, dims * Queries, wide);
      for (int i = 0; i < count; i += Side) score<Pairs, Queries, Side>(keys + i, from, wide, dims, scores + i);
    }
  }
}

// Slots of each key tile that the queries of a tile read, and what any of them reads: [begin, end), begin even.
template <int Queries>
struct Seen {
  __mmask16 slots[kTiles][Queries];
  int64_t begin[kTiles], end[kTiles];

  Seen(const KeyTiles& keys, const QueryTile& tile) {
    int64_t latest_first = tile.first[0], earliest_last = tile.last[0];
    for (int t = 1; t < Queries; ++t) {
      latest_first = tile.first[t] > latest_first ? tile.first[t] : latest_first;
      earliest_last = tile.last[t] < earliest_last ? tile.last[t] : earliest_last;
    }
    for (int i = 0; i < keys.count; ++i) {
      const int64_t position = keys.positions[i];
      const bool whole = position >= latest_first && position + kKeyTile - 1 <= earliest_last;
      uint32_t any = 0;
      for (int t = 0; t < Queries; ++t) {
        const bool reads = (keys.readers[i] >> t & 1u) != 0;
        slots[i][t] = reads ? whole ? __mmask16{0xFFFF} : between(tile.first[t] - position, tile.last[t] - position + 1) : __mmask16{0};
        any |= slots[i][t];
      }
      begin[i] = any != 0 ? __builtin_ctz(any) / 2 * 2 : 0;
      end[i] = any != 0 ? 32 - __builtin_clz(any) : 0;
    }
  }
  static __mmask16 between(int64_t a, int64_t b) {
    const uint32_t above = a <= 0 ? 0xFFFFu : a >= 16 ? 0 : 0xFFFFu << a, below = b <= 0 ? 0 : b >= 16 ? 0xFFFFu : (1u << b) - 1;
    return static_cast<__mmask16>(above & below);
  }
};

// out[query][d] = out * keep + p v for Side groups of 16 dimensions from d on.
template <typename Pairs, int Queries, int Side>
void weigh(const KeyTiles& keys, const typename Pairs::Half (*p)[kKeys], int64_t width, const Seen<Queries>& seen, const float* keep, int64_t d, float* out) {
  __m512 sum[Side][Queries];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) sum[s][t] = _mm512_mul_ps(_mm512_loadu_ps(out + t * width + d + 16 * s), _mm512_set1_ps(keep[t]));
  }
  const auto add = [&](int i, int64_t k, __mmask32 slots) __attribute__((always_inline)) {
    const uint16_t* from = keys.values[i] + k * width + 2 * d;
    typename Pairs::Cells cells[Side];
#pragma GCC unroll 4
    for (int s = 0; s < Side; ++s) cells[s] = Pairs::cells(_mm512_maskz_loadu_epi16(slots, from + 32 * s));
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) {
#pragma GCC unroll 4
      for (int s = 0; s < Side; ++s) sum[s][t] = Pairs::add(sum[s][t], cells[s], p[t] + i * kKeyTile + k);
    }
  };
  for (int i = 0; i < keys.count; ++i) {
    const int64_t end = seen.end[i];
    for (int64_t k = seen.begin[i]; k + 2 <= end; k += 2) add(i, k, 0xFFFFFFFFu);
    // What lies beyond the last position may be NaN of an earlier sequence, which a weight of 0 does not hide.
    if (end % 2 != 0) add(i, end - 1, 0x55555555u);
  }
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) _mm512_storeu_ps(out + t * width + d + 16 * s, sum[s][t]);
  }
}

template <typename Pairs, int Queries>
void attend(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  constexpr int kSide = Queries <= 4 ? 4 : Queries <= 6 ? 2 : 1;
  const uint16_t* side_by_side[kTiles];  // the last again where there are fewer
  for (int i = 0; i < kTiles; ++i) side_by_side[i] = keys.keys[i < keys.count ? i : keys.count - 1];
  const Seen<Queries> seen(keys, tile);
  __m512 scores[kTiles][Queries];
  score_all<Pairs, Queries, kSide>(side_by_side, keys.count, tile.q, width, scores);

  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  alignas(64) float best[16] = {}, old[16] = {}, keep[16];
  for (int t = 0; t < Queries; ++t) {
    __m512 most = _mm512_set1_ps(tile.best[t]);
    for (int i = 0; i < keys.count; ++i) {
      __m512 s = scores[i][t];
      if (softcap > 0) s = capped(s, softcap);
      s = _mm512_mask_mov_ps(nothing, seen.slots[i][t], s);
      scores[i][t] = s;
      most = _mm512_max_ps(most, s);
    }
    old[t] = tile.best[t];
    best[t] = _mm512_reduce_max_ps(most);
  }
  // A query that has seen nothing yet keeps nothing; one that sees nothing here keeps all (-inf - -inf would be NaN).
  const __m512 before = _mm512_load_ps(old), now = _mm512_load_ps(best);
  const __mmask16 same = _mm512_cmp_ps_mask(before, now, _CMP_EQ_OQ);
  _mm512_store_ps(keep, _mm512_mask_mov_ps(exponential(_mm512_sub_ps(before, now)), same, _mm512_set1_ps(1.0f)));

  alignas(64) typename Pairs::Half p[Queries][kKeys];
  for (int t = 0; t < Queries; ++t) {
    const __m512 peak = _mm512_set1_ps(best[t]);
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < keys.count; i += 2) {
      __m512 pair[2];
      for (int j = 0; j < 2; ++j) {
        const bool known = i + j < keys.count;
        pair[j] = known ? _mm512_maskz_mov_ps(seen.slots[i + j][t], exponential(_mm512_sub_ps(scores[i + j][t], peak))) : _mm512_setzero_ps();
      }
      if constexpr (sizeof(typename Pairs::Half) == 2) {
        const __m512bh rounded = _mm512_cvtne2ps_pbh(pair[1], pair[0]);
        _mm512_store_si512(p[t] + i * kKeyTile, (__m512i)rounded);
        sum = _mm512_dpbf16_ps(sum, rounded, (__m512bh)_mm512_set1_epi16(0x3F80));  // times 1
      } else {
        _mm512_store_ps(p[t] + i * kKeyTile, pair[0]);
        _mm512_store_ps(p[t] + i * kKeyTile + kKeyTile, pair[1]);
        sum = _mm512_add_ps(sum, _mm512_add_ps(pair[0], pair[1]));
      }
    }
    tile.sum[t] = tile.sum[t] * keep[t] + _mm512_reduce_add_ps(sum);
    tile.best[t] = best[t];
  }
  int64_t d = 0;
  for (; d + 16 * kSide <= width; d += 16 * kSide) weigh<Pairs, Queries, kSide>(keys, p, width, seen, keep, d, tile.out);
  for (; d < width; d += 16) weigh<Pairs, Queries, 1>(keys, p, width, seen, keep, d, tile.out);
}

// Lanes of 16 registers added up: sum i in lane i.
__m512 sums_of(const __m512 (&x)[16]) {
  __m512 pairs[8], fours[4], eights[2];
  for (int i = 0; i < 8; ++i) pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
    fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  const auto quarters = [](__m512 a, __m512 b) { return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)); };
  for (int i = 0; i < 2; ++i) eights[i] = quarters(fours[2 * i], fours[2 * i + 1]);
  return quarters(eights[0], eights[1]);
}

template <typename Pairs, int Most>
void attend_count(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  if constexpr (Most > 1) {
    if (tile.count < Most) return attend_count<Pairs, Most - 1>(keys, width, softcap, tile);
  }
  attend<Pairs, Most>(keys, width, softcap, tile);
}

}  // namespace

void estimate_avx512(const uint16_t* const (&pages)[4], const uint16_t* q, int64_t width, float (&out)[16]) {
  __m512 sum[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) sum[i] = _mm512_setzero_ps();
  for (int64_t d = 0; d < 2 * width; d += 32) {  // width is a multiple of 16
    const auto x = (__m512bh)_mm512_loadu_si512(q + d);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)_mm512_loadu_si512(pages[i / 4] + i % 4 * 2 * width + d), x);
  }
  _mm512_storeu_ps(out, sums_of(sum));
}

void attend_avx512_bf16(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) { attend_count<Bf16Pairs, kMost>(keys, width, softcap, tile); }
void attend_avx512_wide(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) { attend_count<WidePairs, kMost>(keys, width, softcap, tile); }

}  // namespace deepseek::kernels
