#include "hardware/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace deepseek::hardware {
namespace {

namespace fs = base::fs;

std::optional<uint64_t> number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::vector<std::string> words(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> out;
  for (std::string word; out.size() < 4096 && file >> word;) out.push_back(word);
  return out;
}

std::optional<uint64_t> read_number(const fs::path& path) {
  const auto all = words(path);
  return all.empty() ? std::nullopt : number(all.front());
}

// The value after `key` in a file of "key value" lines; 0 where it is missing.
uint64_t field(const fs::path& path, const std::string& key) {
  const auto all = words(path);
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    if (all[i] == key) return number(all[i + 1]).value_or(0);
  }
  return 0;
}

void tighten_cpus(CgroupLimits& limits, double quota, double period) {
  if (quota <= 0 || period <= 0) return;
  const double cpus = quota / period;
  limits.cpus = limits.cpus == 0 ? cpus : std::min(limits.cpus, cpus);
}

void tighten_memory(CgroupLimits& limits, uint64_t limit, uint64_t usage, uint64_t droppable) {
  constexpr uint64_t kNone = uint64_t{1} << 60;  // version 1 writes "no limit" as a huge number
  if (limit >= kNone || (limits.memory_limit != 0 && limit >= limits.memory_limit)) return;
  limits.memory_limit = limit;
  limits.memory_used = usage - std::min(usage, droppable);
}

void read_v2(CgroupLimits& limits, const fs::path& group) {
  const auto cpu = words(group / "cpu.max");
  if (cpu.size() == 2 && cpu[0] != "max") {
    tighten_cpus(limits, static_cast<double>(number(cpu[0]).value_or(0)), static_cast<double>(number(cpu[1]).value_or(0)));
  }
  if (const auto limit = read_number(group / "memory.max")) {
    tighten_memory(limits, *limit, read_number(group / "memory.current").value_or(0), field(group / "memory.stat", "inactive_file"));
  }
}

void read_v1_cpu(CgroupLimits& limits, const fs::path& group) {
  const auto quota = read_number(group / "cpu.cfs_quota_us"), period = read_number(group / "cpu.cfs_period_us");
  if (quota && period) tighten_cpus(limits, static_cast<double>(*quota), static_cast<double>(*period));  // -1 is no number here: no limit
}

void read_v1_memory(CgroupLimits& limits, const fs::path& group) {
  if (const auto limit = read_number(group / "memory.limit_in_bytes")) {
    tighten_memory(limits, *limit, read_number(group / "memory.usage_in_bytes").value_or(0),
                   field(group / "memory.stat", "total_inactive_file"));
  }
}

// From the process's own group up to the mount: every level may limit. In a container the path may be the host's, which is not
// there; then only the mount's own files apply.
template <typename Read>
void walk_up(CgroupLimits& limits, const fs::path& mount, const std::string& path, Read read) {
  fs::path relative = fs::path(path).relative_path().lexically_normal();
  if (relative.string().starts_with("..")) relative.clear();
  for (int depth = 0; depth < 64 && !relative.empty() && relative != "."; ++depth) {
    read(limits, mount / relative);
    relative = relative.parent_path();
  }
  read(limits, mount);
}

bool contains(const std::string& controllers, const std::string& name) {
  std::stringstream list(controllers);
  for (std::string item; std::getline(list, item, ',');) {
    if (item == name) return true;
  }
  return false;
}

}  // namespace

CgroupLimits cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "hierarchy:controllers:path"
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) {
      walk_up(limits, mounts, path, read_v2);
      if (fs::exists(mounts / "unified")) walk_up(limits, mounts / "unified", path, read_v2);
      continue;
    }
    const fs::path mount = fs::exists(mounts / controllers) ? mounts / controllers : mounts;
    if (contains(controllers, "cpu")) walk_up(limits, fs::exists(mounts / "cpu") ? mounts / "cpu" : mount, path, read_v1_cpu);
    if (contains(controllers, "memory")) {
      walk_up(limits, fs::exists(mounts / "memory") ? mounts / "memory" : mount, path, read_v1_memory);
    }
  }
  return limits;
}

}  // namespace deepseek::hardware
