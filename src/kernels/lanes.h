// The 16 lanes of a 512-bit register as the compiler's vectors: single instructions in files that are compiled for AVX-512, correct on any
// machine, so that tests run the same kernels everywhere. Everything is inlined by force: nothing compiled for AVX-512 reaches other files.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>

#define DEEPSEEK_INLINE [[gnu::always_inline]] inline

namespace deepseek::kernels {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int64_t Pairs __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

template <typename Vector>
DEEPSEEK_INLINE Vector load(const void* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}
template <typename Vector>
DEEPSEEK_INLINE void store(void* to, Vector v) {
  __builtin_memcpy(to, &v, sizeof(v));
}
DEEPSEEK_INLINE Floats splat(float x) { return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
DEEPSEEK_INLINE Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
DEEPSEEK_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }  // b where one is NaN

/// a * b + c, rounded once.
DEEPSEEK_INLINE Floats fused(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#else
  for (int i = 0; i < 16; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

DEEPSEEK_INLINE float largest(Floats v) {
  v = larger(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = larger(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  return v[0] > v[1] ? v[0] : v[1];
}

DEEPSEEK_INLINE float sum(Floats v) {
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return v[0] + v[1];
}

/// e^x for x <= 88, as fast_exp in simd.h; NaN stays NaN.
DEEPSEEK_INLINE Floats exponential(Floats x) {
  x = larger(splat(-87.0f), x);
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to the nearest integer
  const Floats n = shifted - 12582912.0f, r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  constexpr float kTaylor[] = {8.33333333e-3f, 4.16666667e-2f, 1.66666667e-1f, 0.5f, 1.0f, 1.0f};
  Floats p = splat(1.38888889e-3f);
#pragma GCC unroll 6
  for (const float next : kTaylor) p = p * r + next;
  return p * (Floats)(((Words)shifted - 0x4B400000u + 127u) << 23);
}

/// Rounded to bf16, nearest even, in the high half of each lane; NaN stays NaN.
DEEPSEEK_INLINE Words rounded_to_bf16(Floats v) {
  const Words bits = (Words)v, rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
  return v == v ? rounded : bits | 0x00400000u;
}

DEEPSEEK_INLINE Pairs even_quarters(Pairs a, Pairs b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13); }
DEEPSEEK_INLINE Pairs odd_quarters(Pairs a, Pairs b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15); }

/// 16 rows of 16 dwords become columns.
DEEPSEEK_INLINE void transpose(Ints (&v)[16]) {
  Ints a[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    a[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    const int j = i / 4 * 4 + i % 4 / 2;
    const auto x = (Pairs)a[j], y = (Pairs)a[j + 2];
    v[i] = (Ints)__builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14);
    v[i + 1] = (Ints)__builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  // v[i + j], quarter l: column 4l + j of rows i to i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const auto top = (Pairs)v[j], upper = (Pairs)v[4 + j], lower = (Pairs)v[8 + j], bottom = (Pairs)v[12 + j];
    const Pairs even = even_quarters(top, upper), odd = odd_quarters(top, upper);
    const Pairs even_below = even_quarters(lower, bottom), odd_below = odd_quarters(lower, bottom);
    a[j] = (Ints)even_quarters(even, even_below);
    a[4 + j] = (Ints)even_quarters(odd, odd_below);
    a[8 + j] = (Ints)odd_quarters(even, even_below);
    a[12 + j] = (Ints)odd_quarters(odd, odd_below);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = a[i];
}

}  // namespace deepseek::kernels
