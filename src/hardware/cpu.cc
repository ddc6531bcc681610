#include "hardware/cpu.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>
#include <vector>

#include "hardware/cgroup.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace deepseek::hardware {
namespace {

const base::fs::path kSysCpu = "/sys/devices/system/cpu";

std::string first_line(const base::fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

#if defined(__x86_64__)
struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool bit(unsigned value, int index) { return ((value >> index) & 1U) != 0; }

// Which registers the operating system saves when it switches threads.
uint64_t enabled_state() {
  if (!bit(cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

CpuFeatures detect_features() {
  const uint64_t state = enabled_state();
  const auto saves = [&](uint64_t mask) { return (state & mask) == mask; };
  const bool ymm = saves(0x6), zmm = saves(0xe6), tiles = saves(0x60000);
  const Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
  CpuFeatures f;
  f.fma = ymm && bit(one.ecx, 12);
  f.f16c = ymm && bit(one.ecx, 29);
  f.avx2 = ymm && bit(seven.ebx, 5);
  f.avx_vnni = ymm && bit(seven_one.eax, 4);
  f.avx512f = zmm && bit(seven.ebx, 16);
  f.avx512bw = f.avx512f && bit(seven.ebx, 30);
  f.avx512vl = f.avx512f && bit(seven.ebx, 31);
  f.avx512_vnni = f.avx512f && bit(seven.ecx, 11);
  f.avx512_fp16 = f.avx512f && bit(seven.edx, 23);
  f.avx512_bf16 = f.avx512f && bit(seven_one.eax, 5);
  f.amx_bf16 = tiles && bit(seven.edx, 24) && bit(seven.edx, 22);
  f.amx_int8 = tiles && bit(seven.edx, 24) && bit(seven.edx, 25);
  return f;
}

void append(std::string& text, unsigned word) {
  for (int i = 0; i < 4; ++i) text.push_back(static_cast<char>((word >> (8 * i)) & 0xff));
}

void identify(Cpu& cpu) {
  const Registers zero = cpuid(0), one = cpuid(1);
  for (const unsigned word : {zero.ebx, zero.edx, zero.ecx}) append(cpu.vendor, word);
  const unsigned base_family = (one.eax >> 8) & 0xf;
  cpu.family = static_cast<int>(base_family == 15 ? base_family + ((one.eax >> 20) & 0xff) : base_family);
  const bool extended = base_family == 6 || base_family == 15;
  cpu.model = static_cast<int>(((one.eax >> 4) & 0xf) | (extended ? ((one.eax >> 12) & 0xf0) : 0));
  cpu.stepping = static_cast<int>(one.eax & 0xf);
  if (cpuid(0x80000000).eax >= 0x80000004) {
    for (unsigned leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
      const Registers r = cpuid(leaf);
      for (const unsigned word : {r.eax, r.ebx, r.ecx, r.edx}) append(cpu.name, word);
    }
  }
  cpu.name = cpu.name.c_str();  // ends at the first NUL
}
#else
CpuFeatures detect_features() { return {}; }
void identify(Cpu& cpu) { cpu.vendor = "unknown"; }
#endif

std::string squeezed(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    out.push_back(c);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::vector<int> allowed_cpus() {
  for (int size = 1024; size <= (1 << 20); size *= 2) {  // the kernel refuses a mask smaller than its own
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    std::vector<int> cpus;
    if (sched_getaffinity(0, bytes, set) == 0) {
      for (int i = 0; i < size; ++i) {
        if (CPU_ISSET_S(static_cast<size_t>(i), bytes, set)) cpus.push_back(i);
      }
    }
    CPU_FREE(set);
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

int count_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int i : cpus) {
    const std::string siblings = first_line(kSysCpu / fmt::format("cpu{}/topology/thread_siblings_list", i));
    cores.insert(siblings.empty() ? fmt::format("cpu {}", i) : siblings);
  }
  return static_cast<int>(cores.size());
}

// "32768K" -> bytes.
uint64_t parse_size(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return 0;
  const char unit = end == text.data() + text.size() ? ' ' : *end;
  return unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : unit == 'G' ? value << 30 : value;
}

void detect_caches(Cpu& cpu, int of_cpu) {
  const auto directory = kSysCpu / fmt::format("cpu{}/cache", of_cpu);
  for (int i = 0; i < 8; ++i) {
    const auto index = directory / fmt::format("index{}", i);
    const std::string level = first_line(index / "level"), type = first_line(index / "type");
    const uint64_t size = parse_size(first_line(index / "size"));
    if (level == "1" && type == "Data") cpu.l1d_bytes = size;
    if (level == "2") cpu.l2_bytes = size;
    if (level == "3") cpu.l3_bytes = size;
  }
#ifdef _SC_LEVEL1_DCACHE_SIZE
  const auto ask = [](uint64_t& value, int name) {
    const long answer = value == 0 ? sysconf(name) : 0;
    if (answer > 0) value = static_cast<uint64_t>(answer);
  };
  ask(cpu.l1d_bytes, _SC_LEVEL1_DCACHE_SIZE);
  ask(cpu.l2_bytes, _SC_LEVEL2_CACHE_SIZE);
  ask(cpu.l3_bytes, _SC_LEVEL3_CACHE_SIZE);
#endif
}

Cpu detect() {
  Cpu cpu;
  utsname system{};
  if (uname(&system) == 0) cpu.architecture = system.machine;
  identify(cpu);
  cpu.name = squeezed(cpu.name);
  if (cpu.name.empty()) cpu.name = cpu.architecture + " processor";
  cpu.features = detect_features();
  const std::vector<int> allowed = allowed_cpus();
  cpu.allowed_cpus = static_cast<int>(allowed.size());
  cpu.allowed_cores = count_cores(allowed);
  cpu.logical_cpus = std::max(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)), cpu.allowed_cpus);
  cpu.cgroup_cpus = cgroup_limits().cpus;
  detect_caches(cpu, allowed.front());
  return cpu;
}

std::string slug(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return out.empty() ? "unknown" : out;
}

const char* best_instructions(const CpuFeatures& f) {
  return f.amx_bf16 ? "amxbf16" : f.avx512_bf16 ? "avx512bf16" : f.avx512_vnni ? "avx512vnni" : f.avx512f ? "avx512f" : f.avx2 ? "avx2" : "base";
}

}  // namespace

int Cpu::threads() const {
  int count = std::max(1, allowed_cpus);
  if (cgroup_cpus > 0) count = std::min(count, std::max(1, static_cast<int>(std::ceil(std::min(cgroup_cpus, 1e6)))));
  return count;
}

int Cpu::compute_threads() const { return std::max(1, std::min(threads(), allowed_cores)); }

bool Cpu::has_native_bf16() const { return features.avx512_bf16 || features.amx_bf16; }

std::string Cpu::key() const {
  return fmt::format("{}-{}-{}-{}-{}-{}t", slug(vendor == "unknown" ? architecture : vendor), family, model, stepping,
                     best_instructions(features), threads());
}

const Cpu& cpu() {
  static const Cpu detected = detect();
  return detected;
}

bool request_amx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA of Linux 5.16
  if (!cpu().features.amx_bf16 && !cpu().features.amx_int8) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace deepseek::hardware
