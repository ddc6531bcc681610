// Everything about this machine in one description.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "hardware/cpu.h"
#include "hardware/limits.h"
#include "hardware/memory.h"

namespace deepseek::hardware {

struct Machine {
  std::string operating_system;  ///< "Debian GNU/Linux 12 (bookworm)"
  std::string kernel;            ///< "Linux 6.1.0"
  Cpu cpu;
  Memory memory;
  std::optional<DiskSpace> disk;       ///< where the caches lie
  std::optional<Bandwidth> bandwidth;  ///< where it was asked for
};

struct DescribeOptions {
  bool measure = false;  ///< measure the memory bandwidth too (about a second)
  base::fs::path disk;   ///< empty: base::cache_directory()
};

[[nodiscard]] Machine describe_machine(const DescribeOptions& options = {});

/// {"cpu": {"name", "vendor", "key", "threads", "features": [...], ...}, "memory": {...}, "disk": {...}, "bandwidth": {...}, ...}.
[[nodiscard]] nlohmann::json to_json(const Machine& machine);

/// Some lines that a person reads.
[[nodiscard]] std::string to_text(const Machine& machine);

}  // namespace deepseek::hardware
