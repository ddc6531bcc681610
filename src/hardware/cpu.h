// The processor that this process runs on: what it is, what it can multiply, and how much of it we may use.
#pragma once

#include <cstdint>
#include <string>

#include "base/files.h"

namespace deepseek::hardware {

/// Instruction sets that both the processor and the operating system support. All false on other architectures than x86-64.
struct CpuFeatures {
  bool avx2 = false, fma = false, f16c = false;
  bool avx512f = false, avx512bw = false, avx512vl = false;
  bool avx512_vnni = false, avx512_bf16 = false, avx512_fp16 = false, avx_vnni = false;
  bool amx_bf16 = false, amx_int8 = false;
};

struct Cpu {
  std::string name;            ///< "AMD EPYC 7763 64-Core Processor"
  std::string vendor;          ///< "GenuineIntel", "AuthenticAMD"
  std::string architecture;    ///< "x86_64", "aarch64"
  int family = 0, model = 0, stepping = 0;
  int logical_cpus = 0;        ///< hardware threads that are online in the machine
  int allowed_cpus = 0;        ///< those that this process may run on (affinity)
  int allowed_cores = 0;       ///< physical cores among them
  double cgroup_cpus = 0;      ///< CPU time per second that the control group grants; 0: no limit
  uint64_t l1d_bytes = 0, l2_bytes = 0;  ///< of one core
  uint64_t l3_bytes = 0;       ///< of one group of cores that shares it
  CpuFeatures features;

  /// Threads worth starting: allowed_cpus, or less where the control group grants less. At least 1.
  [[nodiscard]] int threads() const;
  /// One thread for each physical core, within threads(): where matrix products saturate the core. At least 1.
  [[nodiscard]] int compute_threads() const;
  /// True where bf16 matrix products are faster than f32: AVX-512 BF16 or AMX.
  [[nodiscard]] bool has_native_bf16() const;
  /// Stands for this kind of processor in the names of cached measurements: "authenticamd-25-17-1-avx512bf16-2t".
  [[nodiscard]] std::string key() const;
};

/// Detected at the first call. Thread-safe.
[[nodiscard]] const Cpu& cpu();

/// Asks the kernel for the AMX tile registers, which Linux grants on request only; true where they may be used.
bool request_amx();

}  // namespace deepseek::hardware
