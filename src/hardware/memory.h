// Main memory as this process may use it: the machine's, or its control group's where that is less.
#pragma once

#include <cstdint>

#include "base/files.h"

namespace deepseek::hardware {

struct Memory {
  uint64_t total = 0;      ///< bytes installed, or the control group's limit where that is less
  uint64_t available = 0;  ///< bytes that can be taken without swapping, within the limit
  uint64_t limit = 0;      ///< the control group's limit; 0: none
  uint64_t swap_free = 0;
};
[[nodiscard]] Memory memory();

/// Resident memory of this process now, and the most it has ever been.
[[nodiscard]] uint64_t resident_bytes();
[[nodiscard]] uint64_t peak_resident_bytes();

struct DiskSpace {
  uint64_t total = 0;
  uint64_t available = 0;  ///< bytes that this user may write
};
/// Of the file system that holds `path`, or its nearest existing parent.
[[nodiscard]] base::Result<DiskSpace> disk_space(const base::fs::path& path);

}  // namespace deepseek::hardware
