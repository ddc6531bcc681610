// Numbers that depend on their seed alone, whatever the standard library.
#pragma once

#include <cstdint>

namespace deepseek::base {

/// SplitMix64 (Steele et al. 2014).
struct SplitMix64 {
  uint64_t state = 0;

  uint64_t operator()() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// In [0, 1), with 53 bits.
  double uniform() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }
};

}  // namespace deepseek::base
