// Loops that the compiler turns into vectors, once for each level of x86-64; the machine's own is picked when the program starts.
#pragma once

#include <bit>
#include <cstdint>

// Sanitizers instrument before the resolver may run, so they get the portable form only.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define DEEPSEEK_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPSEEK_VECTOR_CLONES
#endif

namespace deepseek::kernels {

inline float bf16_to_f32(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

/// Round to nearest even, for values that are not NaN.
inline uint16_t number_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
/// The same; NaN stays NaN.
inline uint16_t f32_to_bf16(float value) { return value != value ? uint16_t{0x7FC0} : number_to_bf16(value); }

/// e^x with relative error below 3e-7 for x in [-87, 88], clamped outside. Cody-Waite reduction, degree-6 polynomial.
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t scale = (std::bit_cast<uint32_t>(shifted) - 0x4B400000u + 127u) << 23;
  return p * std::bit_cast<float>(scale);
}

/// log x within 1e-7 (relative, or absolute below 1) for normal x > 0. log m = 2 atanh(s), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)).
inline float fast_log(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), above = bits - 0x3F3504F3u;  // sqrt(1/2)
  const float exponent = static_cast<float>(static_cast<int32_t>(above) >> 23);
  const float m = std::bit_cast<float>((above & 0x007FFFFFu) + 0x3F3504F3u);
  const float s = (m - 1.0f) / (m + 1.0f), square = s * s;
  float series = 0.111111111f;
  series = series * square + 0.142857143f;
  series = series * square + 0.2f;
  series = series * square + 0.333333333f;
  return exponent * 0.693147182f + 2.0f * (s + s * square * series);
}

}  // namespace deepseek::kernels
