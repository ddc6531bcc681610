// AVX-512: scores of 16 keys, or 16 dimensions of the result, in the lanes of a register. Products of pairs, or of their halves widened to f32 where
// there is no AVX-512 BF16 or where it is the slower one.
#include <immintrin.h>

#include "kernels/paged_attention/implementations.h"
#include "kernels/paged_attention/tile_softmax.h"
#include "kernels/with_count.h"

namespace deepseek::kernels {
namespace {

// Pairs as they are. Queries and weights stay bf16.
struct Bf16Pairs {
  using Cells = __m512bh;
  using Half = uint16_t;
  static constexpr int kQueries = kMost;  // side by side
  static Cells cells(__m512i pairs) { return (__m512bh)pairs; }
  static __m512 add(__m512 sum, Cells cells, const Half* two) {
    int32_t both;
    __builtin_memcpy(&both, two, 4);
    return add(sum, cells, (__m512bh)_mm512_set1_epi32(both));
  }
  static __m512 add(__m512 sum, Cells cells, Cells others) { return _mm512_dpbf16_ps(sum, cells, others); }
};

// Both halves as f32; so are the queries and the weights. Of 8 queries each number that is spread over a register meets two tiles: with 16 queries and
// one, loads took as long as the products.
struct WidePairs {
  struct Cells {
    __m512 low, high;
  };
  using Half = float;
  static constexpr int kQueries = 8;
  static Cells cells(__m512i pairs) { return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))}; }
  static __m512 add(__m512 sum, const Cells& cells, const Half* two) { return add(sum, cells, {_mm512_set1_ps(two[0]), _mm512_set1_ps(two[1])}); }
  static __m512 add(__m512 sum, const Cells& cells, const Cells& others) { return _mm512_fmadd_ps(cells.high, others.high, _mm512_fmadd_ps(cells.low, others.low, sum)); }
};

// How many tiles, or groups of 16 dimensions, so many queries take together, so that few queries fill the registers too.
template <typename Pairs>
constexpr int side_of(int queries) {
  return queries <= 4 ? 4 : queries <= (sizeof(typename Pairs::Half) == 2 ? 6 : 8) ? 2 : 1;
}

// scores of Side key tiles with Queries queries, [tile][16 queries][16] (+)=. q: [dims / 2][stride][2].
template <typename Pairs, int Queries, int Side>
void score(const uint16_t* const* keys, int64_t from, const typename Pairs::Half* q, int64_t stride, int64_t dims, float* scores) {
  __m512 sum[Side][Queries];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) sum[s][t] = from == 0 ? _mm512_setzero_ps() : _mm512_load_ps(scores + (s * kMost + t) * 16);
  }
  for (int64_t d = 0; d < dims; d += 2, q += 2 * stride) {
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
    for (int t = 0; t < Queries; ++t) _mm512_store_ps(scores + (s * kMost + t) * 16, sum[s][t]);
  }
}

// out[query][d] = out * keep + p v for Side groups of 16 dimensions from d on.
template <typename Pairs, int Queries, int Side>
void weigh(const KeyTiles& keys, const typename Pairs::Half (*p)[kKeys], int64_t width, const SeenSlots& seen, const float* keep, int64_t d, float* out) {
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
    const int64_t end = seen.highest[i];
    for (int64_t k = seen.lowest[i] / 2 * 2; k + 2 <= end; k += 2) add(i, k, 0xFFFFFFFFu);
    // What lies beyond the last position may be NaN of an earlier sequence, which a weight of 0 does not hide.
    if (end % 2 != 0) add(i, end - 1, 0x55555555u);
  }
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 16
    for (int t = 0; t < Queries; ++t) _mm512_storeu_ps(out + t * width + d + 16 * s, sum[s][t]);
  }
}

// body.operator()<n>(begin) for blocks of n queries, as even as they can be.
template <int Most, typename Body>
void in_blocks(int64_t queries, const Body& body) {
  const int64_t blocks = (queries + Most - 1) / Most;
  for (int64_t i = 0, begin = 0; i < blocks; ++i) {
    const int64_t end = queries * (i + 1) / blocks;
    with_count<Most>(end - begin, [&]<int Queries>() { body.template operator()<Queries>(begin); });
    begin = end;
  }
}

void widen(const uint16_t* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += 16) {  // count: a multiple of 16
    const __m512i halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
    _mm512_storeu_ps(to + i, _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16)));
  }
}

template <typename Pairs>
void score_all(const KeyTiles& keys, const QueryTile& tile, int64_t width, float* scores) {
  const uint16_t* side_by_side[kTiles];  // the last again where there are fewer
  for (int i = 0; i < kTiles; ++i) side_by_side[i] = keys.keys[i < keys.count ? i : keys.count - 1];
  const auto part = [&](const typename Pairs::Half* q, int64_t from, int64_t dims) {
    in_blocks<Pairs::kQueries>(tile.count, [&]<int Queries>(int64_t begin) {
      constexpr int kSide = side_of<Pairs>(Queries);
      for (int i = 0; i < keys.count; i += kSide) {
        score<Pairs, Queries, kSide>(side_by_side + i, from, q + 2 * begin, tile.count, dims, scores + (i * kMost + begin) * 16);
      }
    });
  };
  if constexpr (sizeof(typename Pairs::Half) == 2) {
    part(tile.q, 0, width);
  } else {
    constexpr int64_t kDims = 256;  // of 16 queries: 16 KiB
    alignas(64) float wide[kMost * kDims];
    for (int64_t from = 0; from < width; from += kDims) {
      const int64_t dims = width - from < kDims ? width - from : kDims;
      widen(tile.q + from * tile.count, dims * tile.count, wide);
      part(wide, from, dims);
    }
  }
}

template <typename Pairs>
void attend(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  const SeenSlots seen(keys, tile);
  alignas(64) float scores[kTiles * kMost * 16];
  alignas(64) typename Pairs::Half weights[kMost][kKeys];
  alignas(64) float keep[kMost];
  score_all<Pairs>(keys, tile, width, scores);
  weigh_scores(scores, keys, seen, softcap, tile, weights, keep);
  in_blocks<Pairs::kQueries>(tile.count, [&]<int Queries>(int64_t begin) {
    constexpr int kSide = side_of<Pairs>(Queries);
    int64_t d = 0;
    for (; d + 16 * kSide <= width; d += 16 * kSide) weigh<Pairs, Queries, kSide>(keys, weights + begin, width, seen, keep + begin, d, tile.out + begin * width);
    for (; d < width; d += 16) weigh<Pairs, Queries, 1>(keys, weights + begin, width, seen, keep + begin, d, tile.out + begin * width);
  });
}

// Estimators e of `Count` and pages side by side: a register holds 8 dimensions of a page's 4 tiles.
template <typename Pairs, int Count>
void estimate(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t width, float (*out)[16]) {
  __m512 sum[Count][4];
#pragma GCC unroll 4
  for (int e = 0; e < Count; ++e) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) sum[e][p] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < 2 * width; d += 8) {
    typename Pairs::Cells cells[4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) cells[p] = Pairs::cells(_mm512_loadu_si512(pages[p] + d * kPageTiles));
#pragma GCC unroll 4
    for (int e = 0; e < Count; ++e) {
      const auto x = Pairs::cells(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(estimators + e * 2 * width + d))));
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) sum[e][p] = Pairs::add(sum[e][p], cells[p], x);
    }
  }
  // Four lanes of each tile are left.
  const __m512i by_page = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#pragma GCC unroll 4
  for (int e = 0; e < Count; ++e) {
    const auto two = [&](int p) { return _mm512_add_ps(_mm512_unpacklo_ps(sum[e][p], sum[e][p + 1]), _mm512_unpackhi_ps(sum[e][p], sum[e][p + 1])); };
    const __m512d low = _mm512_castps_pd(two(0)), high = _mm512_castps_pd(two(2));
    const __m512 four = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)), _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
    _mm512_storeu_ps(out[e], _mm512_permutexvar_ps(by_page, four));
  }
}

template <typename Pairs>
void estimate_count(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]) {
  with_count<AttentionKernel::kEstimators>(count, [&]<int Count>() { estimate<Pairs, Count>(pages, estimators, width, out); });
}

}  // namespace

void estimate_avx512_bf16(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]) {
  estimate_count<Bf16Pairs>(pages, estimators, count, width, out);
}
void estimate_avx512_wide(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]) {
  estimate_count<WidePairs>(pages, estimators, count, width, out);
}

void attend_avx512_bf16(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) { attend<Bf16Pairs>(keys, width, softcap, tile); }
void attend_avx512_wide(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) { attend<WidePairs>(keys, width, softcap, tile); }

}  // namespace deepseek::kernels
