// The compiler's vectors among doubles, and the exponential of them. Functions that use them are compiled for each instruction set (target_clones).
#pragma once

#include <cstdint>

#define EXPLAIN_INLINE [[gnu::always_inline]] inline
#define EXPLAIN_CLONES [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]

namespace deepseek::explain {

// Anywhere among doubles: one register of AVX-512, two of AVX2.
typedef double Doubles __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t Bits __attribute__((vector_size(64), aligned(8), may_alias));
constexpr int kLanes = 8;

EXPLAIN_INLINE Doubles& at(double* x) { return *reinterpret_cast<Doubles*>(x); }
EXPLAIN_INLINE const Doubles& at(const double* x) { return *reinterpret_cast<const Doubles*>(x); }
EXPLAIN_INLINE double sum_of(const Doubles& x) {
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += x[lane];
  return sum;
}
EXPLAIN_INLINE Doubles splat(double x) { return Doubles{x, x, x, x, x, x, x, x}; }
EXPLAIN_INLINE Doubles pick(const Bits& which, double yes, double no) { return which ? splat(yes) : splat(no); }

/// exp(x) for x up to 700, with an error of 2 units in the last place; 0 below -700. By exp(x) = 2^k exp(r), |r| <= log(2) / 2, and a Taylor polynomial of degree 13.
EXPLAIN_INLINE Doubles exponential(Doubles x) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves the nearest whole number in the lowest bits
  const Doubles shifted = x * 0x1.71547652b82fep0 + kRound, k = shifted - kRound;
  const Doubles r = (x - k * 0x1.62e42fefa39efp-1) - k * 0x1.abc9e3b39803fp-56;
  Doubles p = splat(1.0 / 6227020800);
  for (const double c : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0}) p = p * r + c;
  const Bits exponent = ((Bits)shifted << 52) + (int64_t{1023} << 52);
  const Doubles scale = (Doubles)exponent;
  return x < -700.0 ? splat(0) : p * scale;
}

}  // namespace deepseek::explain
