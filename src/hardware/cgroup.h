// Limits of the control group (container, batch job, systemd slice) that this process lives in, versions 1 and 2.
#pragma once

#include <cstdint>

#include "base/files.h"

namespace deepseek::hardware {

struct CgroupLimits {
  double cpus = 0;            ///< CPU seconds per second; 0: no limit
  uint64_t memory_limit = 0;  ///< bytes; 0: no limit
  uint64_t memory_used = 0;   ///< bytes counted against the limit, page cache that can be dropped excluded
};

/// The tightest limits on the way from this process's group to the root. `root` stands for "/" in tests.
[[nodiscard]] CgroupLimits cgroup_limits(const base::fs::path& root = "/");

}  // namespace deepseek::hardware
