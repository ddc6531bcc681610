// Numbers that depend on their seed alone, whatever the standard library.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

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

/// `most` different numbers below `count`, rising; all of them where they are no more. Selection sampling (Knuth, 3.4.2 S).
inline std::vector<int64_t> some_of(int64_t count, int64_t most, uint64_t seed) {
  SplitMix64 draw{seed};
  std::vector<int64_t> chosen;
  int64_t left = std::min(most, count);
  for (int64_t i = 0; i < count && left > 0; ++i) {
    if (draw.uniform() * static_cast<double>(count - i) >= static_cast<double>(left)) continue;
    chosen.push_back(i);
    --left;
  }
  return chosen;
}

}  // namespace deepseek::base
