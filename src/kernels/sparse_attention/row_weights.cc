#include "kernels/sparse_attention/row_weights.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/power.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kLanes = 16;  // sums in so many parts, so that the vector width does not change them
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Below e^-87 fast_exp would stay above 0.
constexpr float kSmallestPower = -87.0f;

// e^x for x in [-87, 0] with the error of power.h: of degree 5 for weights in f32 (|x| 2^-26 more of the rounding of log2 e, |x| 2^-23 more without FMA),
// of degree 3 for those that are rounded to bf16 next.
template <typename T>
inline float power(float x) {
  constexpr int kDegree = sizeof(T) == 4 ? 5 : 3;
  const float shifted = x * kLog2E + kRoundToPower, r = x * kLog2E - (shifted - kRoundToPower);
  float p = kPowerOf2[kDegree - 3][0];
  for (int i = 1; i <= kDegree; ++i) p = p * r + kPowerOf2[kDegree - 3][i];
  return p * std::bit_cast<float>(std::bit_cast<uint32_t>(shifted) << 23);
}

inline void put(float value, float* to) { *to = value; }
inline void put(float value, uint16_t* to) { *to = static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + 0x8000u) >> 16); }  // ties go up

// The threshold leaves out what lies below power()'s range; x <= shift spares the upper one. `to` may be x.
template <bool kEqual, typename T>
inline float kept_part(const float* x, T* to, int64_t n, float threshold, float shift, float scale) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    float weights[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) {
      const float value = x[i + j], e = power<T>((value - shift) * scale);
      weights[j] = (kEqual ? value >= threshold : value > threshold) ? e : 0.0f;
    }
    for (int64_t j = 0; j < kLanes; ++j) {
      put(weights[j], to + i + j);
      lanes[j] += weights[j];
    }
  }
  float sum = 0;
  for (; i < n; ++i) {
    const float kept = (kEqual ? x[i] >= threshold : x[i] > threshold) ? power<T>((x[i] - shift) * scale) : 0.0f;
    put(kept, to + i);
    sum += kept;
  }
  for (const float lane : lanes) sum += lane;
  return sum;
}

DEEPSEEK_VECTOR_CLONES float kept_up_to(const float* x, float* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<true>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float kept_above(const float* x, float* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<false>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float rounded_up_to(const float* x, uint16_t* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<true>(x, to, n, threshold, shift, scale);
}
DEEPSEEK_VECTOR_CLONES float rounded_above(const float* x, uint16_t* to, int64_t n, float threshold, float shift, float scale) {
  return kept_part<false>(x, to, n, threshold, shift, scale);
}

// Where the two rules of a selection meet, and its threshold, raised over what would be nothing.
struct KeptParts {
  int64_t equal;
  float threshold;
  KeptParts(int64_t n, const KeptScores& kept, float shift, float scale)
      : equal(std::clamp<int64_t>(kept.equal_before, 0, n)), threshold(kept.threshold) {
    float least = shift + kSmallestPower / scale;
    // Of a large shift the sum was rounded down. Where the sum is near 0 its own next float would be a step of nothing.
    const float step = (std::nextafter(std::abs(shift), kInfinity) - std::abs(shift)) / 2;
    while ((least - shift) * scale < kSmallestPower) least = std::max(std::nextafter(least, kInfinity), least + step);
    if (least <= threshold) return;
    threshold = least;
    equal = n;
  }
};

int64_t pack_anywhere(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends) {
  int64_t count = 0;
  for (int64_t from = 0; from < n; from += kListBlock) {
    const int64_t to = std::min(n, from + kListBlock);
    for (int64_t i = from; i < to; ++i) {
      const float value = x[i];
      x[count] = value;
      keys[count] = static_cast<uint8_t>(i - from);
      count += value > kept.threshold || (value == kept.threshold && i < kept.equal_before) ? 1 : 0;
    }
    ends[from / kListBlock] = static_cast<int32_t>(count);
  }
  return count;
}
bool always() { return true; }

#if defined(__x86_64__)
bool has_avx512() { return __builtin_cpu_supports("x86-64-v4"); }

[[gnu::target("arch=x86-64-v4")]] int64_t pack_avx512(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends) {
  const __m512 threshold = _mm512_set1_ps(kept.threshold);
  const __m512i first = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const bool one_rule = kept.equal_before >= n;
  int64_t count = 0;
  for (int64_t from = 0; from < n; from += kListBlock) {
    const int64_t to = std::min(n, from + kListBlock);
    for (int64_t i = from; i < to; i += 16) {
      __m512 values;
      __mmask16 lanes;
      if (one_rule && i + 16 <= to) {
        values = _mm512_loadu_ps(x + i);
        lanes = _mm512_cmp_ps_mask(values, threshold, _CMP_GE_OQ);
      } else {
        const auto until = [&](int64_t end) { return static_cast<__mmask16>((1u << std::clamp<int64_t>(end - i, 0, 16)) - 1); };
        values = _mm512_maskz_loadu_ps(until(to), x + i);
        lanes = static_cast<__mmask16>(_mm512_mask_cmp_ps_mask(until(to), values, threshold, _CMP_GT_OQ) |
                                       _mm512_mask_cmp_ps_mask(until(std::min(to, kept.equal_before)), values, threshold, _CMP_EQ_OQ));
      }
      _mm512_storeu_ps(x + count, _mm512_maskz_compress_ps(lanes, values));  // up to where was read
      const __m512i places = _mm512_maskz_compress_epi32(lanes, _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(i - from))));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(keys + count), _mm512_maskz_cvtepi32_epi8(0xFFFF, places));
      count += __builtin_popcount(lanes);
    }
    ends[from / kListBlock] = static_cast<int32_t>(count);
  }
  return count;
}
#endif

constexpr std::array kPackKernels{
#if defined(__x86_64__)
    PackKernel{"avx512", has_avx512, pack_avx512},
#endif
    PackKernel{"anywhere", always, pack_anywhere},
};

}  // namespace

std::span<const PackKernel> pack_kernels() { return kPackKernels; }

int64_t pack_kept(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends) {
  static const auto* chosen = std::find_if(kPackKernels.begin(), kPackKernels.end(), [](const PackKernel& kernel) { return kernel.runs(); });
  return chosen->pack(x, n, kept, keys, ends);
}

int64_t kept_keys(float* x, int64_t n, const KeptScores& kept, int32_t* keys) {
  constexpr int64_t kAtOnce = 8 * kListBlock;
  uint8_t places[kAtOnce + 16];
  int32_t ends[kAtOnce / kListBlock];
  int64_t count = 0;
  for (int64_t from = 0; from < n; from += kAtOnce) {
    const int64_t size = std::min(kAtOnce, n - from);
    pack_kept(x + from, size, {kept.threshold, kept.equal_before - from}, places, ends);
    for (int64_t block = 0, i = 0; block * kListBlock < size; ++block) {
      const auto first = static_cast<int32_t>(from + block * kListBlock);
      for (; i < ends[block]; ++i) keys[count++] = first + places[i];
    }
  }
  return count;
}

PackedRow packed_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale, uint8_t* keys, int32_t* ends) {
  const KeptParts parts(n, kept, shift, scale);
  const int64_t count = pack_kept(x, n, {parts.threshold, parts.equal}, keys, ends), padded = (count + kLanes - 1) / kLanes * kLanes;
  std::fill(x + count, x + padded, -kInfinity);
  return {count, kept_up_to(x, x, padded, parts.threshold, shift, scale)};
}

float exponentials(const float* x, float shift, float scale, float* out, int64_t n) {
  const KeptParts parts(n, {-kInfinity, n}, shift, scale);
  return kept_up_to(x, out, n, parts.threshold, shift, scale);
}

float kept_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale) {
  const KeptParts parts(n, kept, shift, scale);
  const float before = kept_up_to(x, x, parts.equal, parts.threshold, shift, scale);
  return before + kept_above(x + parts.equal, x + parts.equal, n - parts.equal, parts.threshold, shift, scale);
}

float kept_exponentials(const float* x, uint16_t* rounded, int64_t n, const KeptScores& kept, float shift, float scale) {
  const KeptParts parts(n, kept, shift, scale);
  const float before = rounded_up_to(x, rounded, parts.equal, parts.threshold, shift, scale);
  return before + rounded_above(x + parts.equal, rounded + parts.equal, n - parts.equal, parts.threshold, shift, scale);
}

DEEPSEEK_VECTOR_CLONES void score_gradient(const float* p, float mean, float scale, float* g, int64_t n) {
  for (int64_t i = 0; i < n; ++i) g[i] = scale * p[i] * (g[i] - mean);
}

}  // namespace deepseek::kernels
