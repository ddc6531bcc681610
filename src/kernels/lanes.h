// The 16 lanes of a 512-bit register as the compiler's vectors: single instructions in files that are compiled for AVX-512, correct on any
// machine, so that tests run the same kernels everywhere. Everything is inlined by force: nothing compiled for AVX-512 reaches other files.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "kernels/power.h"

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
/// b where one is NaN.
DEEPSEEK_INLINE Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

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

/// 16 rows folded into one lane each: lane i is fold() over row i, in the order of sum() and largest(), so that a row's result is the same in both.
template <typename Fold>
DEEPSEEK_INLINE Floats fold_rows(const Floats (&x)[16], const Fold& fold) {
  Floats halves[8], quarters[4], eighths[2];
  // Where row 4 l + j stands at 4 j + l, the last step leaves the rows in order.
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const Floats a = x[8 * i % 16 + i / 2], b = x[8 * i % 16 + 4 + i / 2];
    halves[i] = fold(__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
                     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Floats a = halves[2 * i], b = halves[2 * i + 1];
    quarters[i] = fold(__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
                       __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Floats a = quarters[2 * i], b = quarters[2 * i + 1];
    eighths[i] = fold(__builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
                      __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
  }
  const Floats a = eighths[0], b = eighths[1];
  return fold(__builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30),
              __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31));
}

DEEPSEEK_INLINE Floats sum_of_each(const Floats (&rows)[16]) {
  return fold_rows(rows, [](Floats a, Floats b) __attribute__((always_inline)) { return a + b; });
}
DEEPSEEK_INLINE Floats largest_of_each(const Floats (&rows)[16]) {
  return fold_rows(rows, [](Floats a, Floats b) __attribute__((always_inline)) { return larger(a, b); });
}

/// e^x for x <= 88 and NaN; 0 where it is below 2^-126. Relative error as power.h has it, none at 0, and |x| 2^-26 more of the rounding of log2 e.
template <int Degree>
DEEPSEEK_INLINE Floats power_of_e(Floats x) {
  static_assert(Degree >= 3 && Degree <= 5);
  x = larger(splat(-127.0f / kLog2E), x);
  const Floats shifted = fused(x, splat(kLog2E), splat(kRoundToPower)), r = fused(x, splat(kLog2E), splat(kRoundToPower) - shifted);
  Floats p = splat(kPowerOf2[Degree - 3][0]);
#pragma GCC unroll 5
  for (int i = 1; i <= Degree; ++i) p = fused(p, r, splat(kPowerOf2[Degree - 3][i]));
  return p * (Floats)((Words)shifted << 23);
}

/// Rounded to bf16, nearest even, in the high half of each lane; NaN stays NaN.
DEEPSEEK_INLINE Words rounded_to_bf16(Floats v) {
  const Words bits = (Words)v, rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
  return v == v ? rounded : bits | 0x00400000u;
}

/// Both rounded to bf16, the 16 of a before those of b.
DEEPSEEK_INLINE Ints rounded_to_bf16(Floats a, Floats b) {
#if defined(__AVX512BF16__)
  return (Ints)_mm512_cvtne2ps_pbh(b, a);
#else
  const Halves both[] = {__builtin_convertvector(rounded_to_bf16(a) >> 16, Halves), __builtin_convertvector(rounded_to_bf16(b) >> 16, Halves)};
  return load<Ints>(both);
#endif
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
