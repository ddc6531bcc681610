// AVX2: bf16 widened to f32 on the way; scores of 8 keys, or 8 dimensions of the result, in the lanes of a register.
#include <immintrin.h>

#include "kernels/paged_attention/implementations.h"
#include "kernels/power.h"

namespace deepseek::kernels {
namespace {

constexpr int kMost = 4;  // queries at once: 4 x 2 sums leave 8 of 16 registers
constexpr int kTiles = KeyTiles::kMost, kKeys = kTiles * static_cast<int>(kKeyTile), kEights = kKeys / 8;

__m256i load(const uint16_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
// Of two bf16 in each lane, the first (the lower half) and the second.
__m256 first_of(__m256i two) { return _mm256_castsi256_ps(_mm256_slli_epi32(two, 16)); }
__m256 second_of(__m256i two) { return _mm256_castsi256_ps(_mm256_and_si256(two, _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000u)))); }
__m256i pair_at(const uint16_t* at) {
  int32_t two;
  __builtin_memcpy(&two, at, 4);
  return _mm256_set1_epi32(two);
}

// power_of_e<4>() of lanes.h: e^x for x <= 88 and NaN, within 2^-18; 0 where it is below 2^-126.
__m256 power_of_e(__m256 x) {
  const __m256 log2_e = _mm256_set1_ps(kLog2E), round = _mm256_set1_ps(kRoundToPower);
  x = _mm256_max_ps(_mm256_set1_ps(-127.0f / kLog2E), x);
  const __m256 shifted = _mm256_fmadd_ps(x, log2_e, round), r = _mm256_fmadd_ps(x, log2_e, _mm256_sub_ps(round, shifted));
  __m256 p = _mm256_set1_ps(kPowerOf2[1][0]);
#pragma GCC unroll 4
  for (int i = 1; i <= 4; ++i) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kPowerOf2[1][i]));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

// cap * tanh(x / cap) = cap * (1 - 2 / (e^(2x / cap) + 1))
__m256 capped(__m256 x, float cap) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 e = power_of_e(_mm256_min_ps(_mm256_set1_ps(40.0f), _mm256_mul_ps(x, _mm256_set1_ps(2.0f / cap))));
  return _mm256_mul_ps(_mm256_set1_ps(cap), _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one))));
}

float largest(__m256 x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}

float sum_of(__m256 x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

// Lanes of positions [8 i, 8 i + 8) that lie in [from, to).
__m256 inside(int64_t from, int64_t to, int i) {
  const __m256i position = _mm256_add_epi32(_mm256_set1_epi32(8 * i), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i low = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(from)), position);
  return _mm256_castsi256_ps(_mm256_andnot_si256(low, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(to)), position)));
}

// scores[query][8 positions] of Side key tiles from `tile` on, so that few queries fill the registers too.
template <int Queries, int Side>
void score(const KeyTiles& keys, const uint16_t* q, int64_t stride, int64_t width, int tile, __m256 (*scores)[kEights]) {
  __m256 sum[Side][Queries][2];
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < Queries; ++t) sum[s][t][0] = sum[s][t][1] = _mm256_setzero_ps();
  }
  for (int64_t d = 0; d < width; d += 2, q += stride) {
#pragma GCC unroll 4
    for (int s = 0; s < Side; ++s) {
      const uint16_t* from = keys.keys[tile + s] + d * kKeyTile;
      const __m256i low = load(from), high = load(from + 16);
      const __m256 cells[4] = {first_of(low), second_of(low), first_of(high), second_of(high)};
#pragma GCC unroll 4
      for (int t = 0; t < Queries; ++t) {
        const __m256i two = pair_at(q + 2 * t);
        const __m256 first = first_of(two), second = second_of(two);
        sum[s][t][0] = _mm256_fmadd_ps(cells[1], second, _mm256_fmadd_ps(cells[0], first, sum[s][t][0]));
        sum[s][t][1] = _mm256_fmadd_ps(cells[3], second, _mm256_fmadd_ps(cells[2], first, sum[s][t][1]));
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < Queries; ++t) {
      scores[t][2 * (tile + s)] = sum[s][t][0];
      scores[t][2 * (tile + s) + 1] = sum[s][t][1];
    }
  }
}

// Slots of a key tile that a query reads, and what any query of a call reads.
struct Seen {
  bool all = true;  // every query reads every slot
  int64_t from[kTiles][kMost], to[kTiles][kMost], begin[kTiles], end[kTiles];  // begin is even

  Seen(const KeyTiles& keys, const QueryTile& tile, int64_t at, int queries) {
    for (int i = 0; i < keys.count; ++i) {
      begin[i] = kKeyTile;
      end[i] = 0;
      for (int t = 0; t < queries; ++t) {
        const int64_t first = tile.first[at + t] - keys.positions[i], after = tile.last[at + t] - keys.positions[i] + 1;
        const bool reads = (keys.readers[i] >> (at + t) & 1u) != 0;
        from[i][t] = first > 0 ? first : 0;
        to[i][t] = !reads ? 0 : after < kKeyTile ? after : kKeyTile;
        all = all && from[i][t] == 0 && to[i][t] == kKeyTile;
        if (from[i][t] >= to[i][t]) continue;
        begin[i] = from[i][t] < begin[i] ? from[i][t] : begin[i];
        end[i] = to[i][t] > end[i] ? to[i][t] : end[i];
      }
      begin[i] = begin[i] / 2 * 2;
    }
  }
};

// out[query][d] = out * keep + p v for Side groups of 8 dimensions from d on.
template <int Queries, int Side>
void weigh(const KeyTiles& keys, const float (*p)[kKeys], int64_t width, const Seen& seen, const float* keep, int64_t d, float* const* out) {
  __m256 sum[Side][Queries];
#pragma GCC unroll 8
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < Queries; ++t) sum[s][t] = _mm256_mul_ps(_mm256_loadu_ps(out[t] + d + 8 * s), _mm256_set1_ps(keep[t]));
  }
  for (int i = 0; i < keys.count; ++i) {
    const int64_t at = i * kKeyTile;
    for (int64_t k = seen.begin[i]; k < seen.end[i]; k += 2) {
      const uint16_t* from = keys.values[i] + k * width + 2 * d;
      // What lies beyond the last position may be NaN of an earlier sequence, which a weight of 0 does not hide.
      const bool both = k + 1 < seen.end[i];
#pragma GCC unroll 8
      for (int s = 0; s < Side; ++s) {
        const __m256i two = load(from + 16 * s);
        const __m256 first = first_of(two), second = both ? second_of(two) : _mm256_setzero_ps();
#pragma GCC unroll 4
        for (int t = 0; t < Queries; ++t) {
          sum[s][t] = _mm256_fmadd_ps(second, _mm256_set1_ps(p[t][at + k + 1]), _mm256_fmadd_ps(first, _mm256_set1_ps(p[t][at + k]), sum[s][t]));
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int s = 0; s < Side; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < Queries; ++t) _mm256_storeu_ps(out[t] + d + 8 * s, sum[s][t]);
  }
}

// Queries [at, at + Queries) of a tile.
template <int Queries>
void attend(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile, int64_t at) {
  constexpr int kSide = kMost / Queries;
  const Seen seen(keys, tile, at, Queries);
  __m256 scores[Queries][kEights];
  int i = 0;
  for (; i + kSide <= keys.count; i += kSide) score<Queries, kSide>(keys, tile.q + 2 * at, 2 * tile.count, width, i, scores);
  for (; i < keys.count; ++i) score<Queries, 1>(keys, tile.q + 2 * at, 2 * tile.count, width, i, scores);

  alignas(32) float p[Queries][kKeys];
  float keep[Queries];
  float* out[Queries];
  const int eights = 2 * keys.count;
  for (int t = 0; t < Queries; ++t) {
    out[t] = tile.out + (at + t) * width;
    const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
    __m256 most = _mm256_set1_ps(tile.best[at + t]), sum = _mm256_setzero_ps();
    for (int e = 0; e < eights; ++e) {
      __m256 s = scores[t][e];
      if (softcap > 0) s = capped(s, softcap);
      scores[t][e] = seen.all ? s : _mm256_blendv_ps(nothing, s, inside(seen.from[e / 2][t], seen.to[e / 2][t], e % 2));
      most = _mm256_max_ps(most, scores[t][e]);
    }
    const float best = largest(most);
    // A query that has seen nothing yet keeps nothing; one that sees nothing here keeps all (-inf - -inf would be NaN).
    const bool same = tile.best[at + t] == best;
    keep[t] = same ? 1.0f : _mm256_cvtss_f32(power_of_e(_mm256_set1_ps(tile.best[at + t] - best)));
    const __m256 shift = _mm256_set1_ps(best == -__builtin_inff() ? 0.0f : best);
    for (int e = 0; e < eights; ++e) {
      const __m256 weight = power_of_e(_mm256_sub_ps(scores[t][e], shift));  // 0 of what is not read
      _mm256_store_ps(p[t] + 8 * e, weight);
      sum = _mm256_add_ps(sum, weight);
    }
    tile.sum[at + t] = tile.sum[at + t] * keep[t] + sum_of(sum);
    tile.best[at + t] = best;
  }
  constexpr int kWide = Queries <= 2 ? 4 : 2;
  int64_t d = 0;
  for (; d + 8 * kWide <= width; d += 8 * kWide) weigh<Queries, kWide>(keys, p, width, seen, keep, d, out);
  for (; d < width; d += 8) weigh<Queries, 1>(keys, p, width, seen, keep, d, out);
}

}  // namespace

void attend_avx2(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  int64_t at = 0;
  for (; at + kMost <= tile.count; at += kMost) attend<kMost>(keys, width, softcap, tile, at);
  switch (tile.count - at) {
    case 1: return attend<1>(keys, width, softcap, tile, at);
    case 2: return attend<2>(keys, width, softcap, tile, at);
    case 3: return attend<3>(keys, width, softcap, tile, at);
    default: return;
  }
}

}  // namespace deepseek::kernels
