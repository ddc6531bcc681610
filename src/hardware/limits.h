// What the memory system does in practice. (Matrix products are measured where they are computed, not here.)
#pragma once

#include <cstdint>

namespace deepseek::hardware {

struct BandwidthOptions {
  int threads = 0;         ///< 0: cpu().threads()
  uint64_t bytes = 0;      ///< of the three arrays together; 0: several times the last-level cache, at most 1/8 of free memory
  double seconds = 0.5;    ///< spent measuring, after one pass that warms up
};

struct Bandwidth {
  double copy_gb_per_s = 0;   ///< best pass of a[i] = b[i], 16 bytes counted an element
  double triad_gb_per_s = 0;  ///< best pass of a[i] = b[i] + s * c[i], 24 bytes counted an element
  int threads = 0;
  uint64_t bytes = 0;
};

/// Source: McCalpin's STREAM (copy and triad, doubles, best pass; stores counted once, as there). 1 GB is 1e9 bytes.
[[nodiscard]] Bandwidth measure_bandwidth(const BandwidthOptions& options = {});

}  // namespace deepseek::hardware
