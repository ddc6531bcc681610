// AVX-512 BF16: scores of 16 keys, or 16 dimensions of the result, in the lanes of a register.
#include <immintrin.h>

#include "kernels/paged_attention/implementations.h"

namespace deepseek::kernels {
namespace {

constexpr int kTiles = kPageTokens / kKeyTile, kMost = static_cast<int>(QueryTile::kMostSideBySide);

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

__m512bh pair_at(const uint16_t* at) {
  int32_t two;
  __builtin_memcpy(&two, at, 4);
  return (__m512bh)_mm512_set1_epi32(two);
}

// scores[tile][query]: Side key tiles from `tile` on, so that few queries fill the registers too.
template <int Queries, int Side>
void score(const uint16_t* keys, const uint16_t* q, int64_t width, int tile, __m512 (*scores)[Queries]) {
  __m512 sum[Side][Queries];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) sum[s][t] = _mm512_setzero_ps();
  }
  const uint16_t* from = keys + tile * kKeyTile * width;
  for (int64_t d = 0; d < width; d += 2, from += 2 * kKeyTile, q += 2 * Queries) {
    __m512bh cells[Side];
#pragma GCC unroll 4
    for (int s = 0; s < Side; ++s) cells[s] = (__m512bh)_mm512_loadu_si512(from + s * kKeyTile * width);
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) {
      const __m512bh two = pair_at(q + 2 * t);
#pragma GCC unroll 4
      for (int s = 0; s < Side; ++s) sum[s][t] = _mm512_dpbf16_ps(sum[s][t], cells[s], two);
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) scores[tile + s][t] = sum[s][t];
  }
}

// out[query][d] = out * keep + p v for Side groups of 16 dimensions from d on.
template <int Queries, int Side>
void weigh(const uint16_t* values, const uint16_t (*p)[kPageTokens], int64_t width, int64_t begin, int64_t end, const float* keep, int64_t d, float* out) {
  __m512 sum[Side][Queries];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) sum[s][t] = _mm512_mul_ps(_mm512_loadu_ps(out + t * width + d + 16 * s), _mm512_set1_ps(keep[t]));
  }
  const auto add = [&](int64_t k, __mmask32 slots) __attribute__((always_inline)) {
    const uint16_t* from = values + k * width + 2 * d;
    __m512bh cells[Side];
#pragma GCC unroll 4
    for (int s = 0; s < Side; ++s) cells[s] = (__m512bh)_mm512_maskz_loadu_epi16(slots, from + 32 * s);
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) {
      const __m512bh two = pair_at(p[t] + k);
#pragma GCC unroll 4
      for (int s = 0; s < Side; ++s) sum[s][t] = _mm512_dpbf16_ps(sum[s][t], cells[s], two);
    }
  };
  for (int64_t k = begin; k + 2 <= end; k += 2) add(k, 0xFFFFFFFFu);
  // What lies beyond the last position may be NaN of an earlier sequence, which a weight of 0 does not hide.
  if ((end - begin) % 2 != 0) add(end - 1, 0x55555555u);
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 12
    for (int t = 0; t < Queries; ++t) _mm512_storeu_ps(out + t * width + d + 16 * s, sum[s][t]);
  }
}

__mmask16 between(int64_t from, int64_t to, int tile) {
  const int64_t a = from - tile * kKeyTile, b = to - tile * kKeyTile;
  const uint32_t above = a <= 0 ? 0xFFFFu : a >= 16 ? 0 : 0xFFFFu << a, below = b <= 0 ? 0 : b >= 16 ? 0xFFFFu : (1u << b) - 1;
  return static_cast<__mmask16>(above & below);
}

template <int Queries>
void page(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  constexpr int kSide = Queries <= 4 ? 4 : Queries <= 6 ? 2 : 1;
  int64_t from[Queries], to[Queries], lowest = kPageTokens, highest = 0;
  for (int t = 0; t < Queries; ++t) {
    from[t] = tile.first[t] > first_position ? tile.first[t] - first_position : 0;
    to[t] = tile.last[t] - first_position + 1 < kPageTokens ? tile.last[t] - first_position + 1 : kPageTokens;
    if (from[t] >= to[t]) continue;
    lowest = from[t] < lowest ? from[t] : lowest;
    highest = to[t] > highest ? to[t] : highest;
  }
  if (lowest >= highest) return;
  const int begin = static_cast<int>(lowest / kKeyTile) / kSide * kSide, end = static_cast<int>((highest + kKeyTile - 1) / kKeyTile);
  __m512 scores[kTiles][Queries];
  for (int i = begin; i < end; i += kSide) score<Queries, kSide>(keys, tile.q, width, i, scores);
  const int last = (end + kSide - 1) / kSide * kSide;

  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  alignas(64) float best[16] = {}, old[16] = {}, keep[16];
  for (int t = 0; t < Queries; ++t) {
    __m512 most = _mm512_set1_ps(tile.best[t]);
    for (int i = begin; i < last; ++i) {
      __m512 s = scores[i][t];
      if (softcap > 0) s = capped(s, softcap);
      s = _mm512_mask_mov_ps(nothing, between(from[t], to[t], i), s);
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

  alignas(64) uint16_t p[Queries][kPageTokens];
  const auto ones = (__m512bh)_mm512_set1_epi16(0x3F80);
  const int64_t pair_begin = lowest / 2 * 2;
  for (int t = 0; t < Queries; ++t) {
    if (from[t] >= to[t]) {
      for (int i = 0; i < kTiles; i += 2) _mm512_store_si512(p[t] + i * kKeyTile, _mm512_setzero_si512());
      continue;
    }
    const __m512 peak = _mm512_set1_ps(best[t]);
    __m512 sum = _mm512_setzero_ps();
    for (int i = begin / 2 * 2; i < last; i += 2) {
      __m512 pair[2];
      for (int j = 0; j < 2; ++j) {
        const bool known = i + j >= begin && i + j < last;
        pair[j] = known ? _mm512_maskz_mov_ps(between(from[t], to[t], i + j), exponential(_mm512_sub_ps(scores[i + j][t], peak))) : _mm512_setzero_ps();
      }
      const __m512bh rounded = _mm512_cvtne2ps_pbh(pair[1], pair[0]);
      _mm512_store_si512(p[t] + i * kKeyTile, (__m512i)rounded);
      sum = _mm512_dpbf16_ps(sum, rounded, ones);
    }
    tile.sum[t] = tile.sum[t] * keep[t] + _mm512_reduce_add_ps(sum);
    tile.best[t] = best[t];
  }
  int64_t d = 0;
  for (; d + 16 * kSide <= width; d += 16 * kSide) weigh<Queries, kSide>(values, p, width, pair_begin, highest, keep, d, tile.out);
  for (; d < width; d += 16) weigh<Queries, 1>(values, p, width, pair_begin, highest, keep, d, tile.out);
}

template <int Most>
void page_of_count(int64_t count, const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  if constexpr (Most > 1) {
    if (count < Most) return page_of_count<Most - 1>(count, keys, values, width, first_position, softcap, tile);
  }
  page<Most>(keys, values, width, first_position, softcap, tile);
}

}  // namespace

void attend_page_avx512(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  page_of_count<kMost>(tile.count, keys, values, width, first_position, softcap, tile);
}

}  // namespace deepseek::kernels
