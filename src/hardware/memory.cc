#include "hardware/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>

#include "hardware/cgroup.h"

namespace deepseek::hardware {
namespace {

// A line "name:   123 kB" of a file under /proc, in bytes; 0 where it is missing.
uint64_t proc_bytes(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, name.size(), name) == 0 && line.size() > name.size() && line[name.size()] == ':') {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

}  // namespace

Memory memory() {
  Memory m;
  m.total = proc_bytes("/proc/meminfo", "MemTotal");
  if (m.total == 0) m.total = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  m.available = proc_bytes("/proc/meminfo", "MemAvailable");
  if (m.available == 0) m.available = m.total / 2;
  m.swap_free = proc_bytes("/proc/meminfo", "SwapFree");
  const CgroupLimits group = cgroup_limits();
  if (group.memory_limit > 0 && group.memory_limit < m.total) {
    m.limit = group.memory_limit;
    m.total = m.limit;
    m.available = std::min(m.available, m.limit - std::min(m.limit, group.memory_used));
  }
  return m;
}

uint64_t resident_bytes() { return proc_bytes("/proc/self/status", "VmRSS"); }

uint64_t peak_resident_bytes() {
  if (const uint64_t peak = proc_bytes("/proc/self/status", "VmHWM")) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

base::Result<DiskSpace> disk_space(const base::fs::path& path) {
  std::error_code error;
  base::fs::path place = base::fs::absolute(path, error);
  while (!error && !base::fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  const auto space = base::fs::space(place, error);
  if (error) return base::fail("{}: the free space of the disk cannot be read: {}", path.string(), error.message());
  return DiskSpace{space.capacity, space.available};
}

}  // namespace deepseek::hardware
