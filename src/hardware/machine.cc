#include "hardware/machine.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/text.h"

namespace deepseek::hardware {
namespace {

std::string operating_system() {
  for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with("PRETTY_NAME=")) continue;
      std::string name = line.substr(12);
      std::erase(name, '"');
      return base::to_valid_utf8(name);
    }
  }
  return "unknown";
}

std::string kernel() {
  utsname system{};
  if (uname(&system) != 0) return "unknown";
  return fmt::format("{} {}", system.sysname, system.release);
}

std::vector<std::string> feature_names(const CpuFeatures& f) {
  const std::pair<const char*, bool> table[] = {
      {"avx2", f.avx2},         {"fma", f.fma},           {"f16c", f.f16c},
      {"avx_vnni", f.avx_vnni}, {"avx512f", f.avx512f},   {"avx512bw", f.avx512bw},
      {"avx512vl", f.avx512vl}, {"avx512_vnni", f.avx512_vnni}, {"avx512_bf16", f.avx512_bf16},
      {"avx512_fp16", f.avx512_fp16}, {"amx_bf16", f.amx_bf16}, {"amx_int8", f.amx_int8},
  };
  std::vector<std::string> names;
  for (const auto& [name, present] : table) {
    if (present) names.emplace_back(name);
  }
  return names;
}

nlohmann::json cpu_json(const Cpu& cpu) {
  return {{"name", cpu.name},
          {"vendor", cpu.vendor},
          {"architecture", cpu.architecture},
          {"family", cpu.family},
          {"model", cpu.model},
          {"stepping", cpu.stepping},
          {"key", cpu.key()},
          {"logical_cpus", cpu.logical_cpus},
          {"allowed_cpus", cpu.allowed_cpus},
          {"allowed_cores", cpu.allowed_cores},
          {"cgroup_cpus", cpu.cgroup_cpus > 0 ? nlohmann::json(cpu.cgroup_cpus) : nlohmann::json(nullptr)},
          {"threads", cpu.threads()},
          {"compute_threads", cpu.compute_threads()},
          {"l1d_bytes", cpu.l1d_bytes},
          {"l2_bytes", cpu.l2_bytes},
          {"l3_bytes", cpu.l3_bytes},
          {"native_bf16", cpu.has_native_bf16()},
          {"features", feature_names(cpu.features)}};
}

}  // namespace

Machine describe_machine(const DescribeOptions& options) {
  Machine machine{operating_system(), kernel(), cpu(), memory(), std::nullopt, std::nullopt};
  const auto disk = disk_space(options.disk.empty() ? base::cache_directory() : options.disk);
  if (disk) machine.disk = *disk;
  if (options.measure) machine.bandwidth = measure_bandwidth();
  return machine;
}

nlohmann::json to_json(const Machine& machine) {
  nlohmann::json json = {{"operating_system", machine.operating_system}, {"kernel", machine.kernel}, {"cpu", cpu_json(machine.cpu)}};
  const Memory& m = machine.memory;
  json["memory"] = {{"total_bytes", m.total}, {"available_bytes", m.available}, {"swap_free_bytes", m.swap_free}};
  json["memory"]["cgroup_limit_bytes"] = m.limit > 0 ? nlohmann::json(m.limit) : nlohmann::json(nullptr);
  if (machine.disk) json["disk"] = {{"total_bytes", machine.disk->total}, {"available_bytes", machine.disk->available}};
  if (machine.bandwidth) {
    const Bandwidth& b = *machine.bandwidth;
    json["bandwidth"] = {{"copy_gb_per_s", b.copy_gb_per_s}, {"triad_gb_per_s", b.triad_gb_per_s}, {"threads", b.threads}, {"bytes", b.bytes}};
  }
  return json;
}

std::string to_text(const Machine& machine) {
  const Cpu& c = machine.cpu;
  const Memory& m = machine.memory;
  std::string text = fmt::format("system     {}, {}\n", machine.operating_system, machine.kernel);
  text += fmt::format("processor  {} ({})\n", c.name, c.key());
  text += fmt::format("threads    {} of {} (cores: {}{})\n", c.threads(), c.logical_cpus, c.allowed_cores,
                      c.cgroup_cpus > 0 ? fmt::format(", control group grants {:.2f} CPUs", c.cgroup_cpus) : "");
  text += fmt::format("caches     L1d {}, L2 {} a core, L3 {} shared\n", base::human_bytes(c.l1d_bytes), base::human_bytes(c.l2_bytes),
                      base::human_bytes(c.l3_bytes));
  text += fmt::format("features   {}\n", fmt::join(feature_names(c.features), " "));
  text += fmt::format("bf16       {}\n", c.has_native_bf16() ? "multiplied natively" : "not native: f32 is faster");
  text += fmt::format("memory     {} available of {}{}\n", base::human_bytes(m.available), base::human_bytes(m.total),
                      m.limit > 0 ? " (limit of the control group)" : "");
  if (machine.disk) {
    text += fmt::format("disk       {} free of {}\n", base::human_bytes(machine.disk->available), base::human_bytes(machine.disk->total));
  }
  if (machine.bandwidth) {
    text += fmt::format("bandwidth  copy {:.1f} GB/s, triad {:.1f} GB/s with {} threads\n", machine.bandwidth->copy_gb_per_s,
                        machine.bandwidth->triad_gb_per_s, machine.bandwidth->threads);
  }
  return text;
}

}  // namespace deepseek::hardware
