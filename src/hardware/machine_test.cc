// What is detected, against what the operating system says by other ways; control groups against made-up ones.
#include "hardware/machine.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "hardware/cgroup.h"

namespace deepseek::hardware {
namespace {

namespace fs = base::fs;

// Value of the first line "name : value" in /proc/cpuinfo.
std::string cpuinfo(const std::string& name) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, name.size(), name) != 0) continue;
    if (line.find_first_not_of(" \t", name.size()) != colon) continue;
    return colon + 2 <= line.size() ? line.substr(colon + 2) : "";
  }
  return "";
}

TEST(Cpu, IdentityEqualsTheKernels) {
  const Cpu& c = cpu();
  EXPECT_FALSE(c.name.empty());
  if (c.architecture != "x86_64") GTEST_SKIP() << "no /proc/cpuinfo of this form on " << c.architecture;
  EXPECT_EQ(c.vendor, cpuinfo("vendor_id"));
  EXPECT_EQ(std::to_string(c.family), cpuinfo("cpu family"));
  EXPECT_EQ(std::to_string(c.model), cpuinfo("model"));
  EXPECT_EQ(std::to_string(c.stepping), cpuinfo("stepping"));
  EXPECT_NE(cpuinfo("model name").find(c.name.substr(0, 6)), std::string::npos) << c.name;
}

TEST(Cpu, FeaturesEqualTheKernels) {
  if (cpu().architecture != "x86_64") GTEST_SKIP();
  std::stringstream flags(cpuinfo("flags"));
  std::set<std::string> has;
  for (std::string flag; flags >> flag;) has.insert(flag);
  ASSERT_FALSE(has.empty());
  const CpuFeatures& f = cpu().features;
  const std::pair<const char*, bool> table[] = {{"avx2", f.avx2}, {"fma", f.fma}, {"f16c", f.f16c}, {"avx512f", f.avx512f},
      {"avx512bw", f.avx512bw}, {"avx512vl", f.avx512vl}, {"avx512_vnni", f.avx512_vnni}, {"avx512_bf16", f.avx512_bf16},
      {"avx512_fp16", f.avx512_fp16}, {"avx_vnni", f.avx_vnni}, {"amx_bf16", f.amx_bf16}, {"amx_int8", f.amx_int8}};
  for (const auto& [name, present] : table) EXPECT_EQ(present, has.contains(name)) << name;
  EXPECT_EQ(cpu().has_native_bf16(), has.contains("avx512_bf16") || has.contains("amx_bf16"));
  if (!f.amx_bf16 && !f.amx_int8) {
    EXPECT_FALSE(request_amx());
  }
}

TEST(Cpu, CountsWithinWhatTheSystemHas) {
  const Cpu& c = cpu();
  EXPECT_EQ(c.logical_cpus, sysconf(_SC_NPROCESSORS_ONLN));
  EXPECT_EQ(c.allowed_cpus, static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_GE(c.allowed_cores, 1);
  EXPECT_LE(c.allowed_cores, c.allowed_cpus);
  EXPECT_GE(c.threads(), 1);
  EXPECT_LE(c.threads(), c.allowed_cpus);
  EXPECT_LE(c.compute_threads(), c.threads());
  if (c.l2_bytes > 0) {
    EXPECT_GE(c.l2_bytes, c.l1d_bytes);
  }
}

TEST(Cpu, ThreadsFollowTheQuota) {
  Cpu c;
  EXPECT_EQ(c.threads(), 1);
  c.allowed_cpus = 8;
  c.allowed_cores = 4;
  EXPECT_EQ(c.threads(), 8);
  EXPECT_EQ(c.compute_threads(), 4);
  c.cgroup_cpus = 2.5;
  EXPECT_EQ(c.threads(), 3);
  c.cgroup_cpus = 0.2;
  EXPECT_EQ(c.threads(), 1);
}

TEST(Cpu, KeyIsAFileName) {
  const std::string key = cpu().key();
  EXPECT_EQ(key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos) << key;
  Cpu intel;
  intel.vendor = "GenuineIntel";
  intel.family = 6, intel.model = 143, intel.stepping = 8, intel.allowed_cpus = 16;
  intel.features.avx2 = intel.features.avx512f = intel.features.amx_bf16 = true;
  EXPECT_EQ(intel.key(), "genuineintel-6-143-8-amxbf16-16t");
}

TEST(Memory, IsPlausible) {
  const Memory m = memory();
  const uint64_t installed = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  EXPECT_GT(m.available, uint64_t{1} << 20);
  EXPECT_LE(m.available, m.total);
  EXPECT_LE(m.total, installed);
  if (m.limit == 0) {
    EXPECT_EQ(m.total, installed);
  }
}

TEST(Memory, ResidentFollowsWhatIsTouched) {
  constexpr size_t kSize = size_t{64} << 20;
  const uint64_t before = resident_bytes();
  std::vector<char> block(kSize, 1);
  EXPECT_GE(resident_bytes(), before + kSize * 9 / 10);
  EXPECT_GE(peak_resident_bytes() + (size_t{1} << 20), resident_bytes());
  EXPECT_EQ(block[kSize / 2], 1);
}

TEST(Disk, SpaceOfADirectoryThatIsNotThereYet) {
  const auto space = disk_space(fs::temp_directory_path() / "no" / "such" / "directory");
  ASSERT_TRUE(space) << space.error().message;
  EXPECT_GT(space->total, 0u);
  EXPECT_LE(space->available, space->total);
}

class Cgroup : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("deepseek-cgroup-" + std::to_string(getpid()));
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  fs::path root_;
};

TEST_F(Cgroup, Version2TakesTheTightestLevel) {
  write("proc/self/cgroup", "0::/user.slice/job\n");
  write("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/user.slice/memory.max", "max\n");
  write("sys/fs/cgroup/user.slice/job/memory.max", "1000000\n");
  write("sys/fs/cgroup/user.slice/job/memory.current", "700000\n");
  write("sys/fs/cgroup/user.slice/job/memory.stat", "anon 5\ninactive_file 200000\n");
  const CgroupLimits limits = cgroup_limits(root_);
  EXPECT_DOUBLE_EQ(limits.cpus, 1.5);
  EXPECT_EQ(limits.memory_limit, 1000000u);
  EXPECT_EQ(limits.memory_used, 500000u);
}

TEST_F(Cgroup, Version1AndAPathOfTheHost) {
  write("proc/self/cgroup", "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
  const CgroupLimits limits = cgroup_limits(root_);
  EXPECT_DOUBLE_EQ(limits.cpus, 0.5);
  EXPECT_EQ(limits.memory_limit, 2000000u);
  EXPECT_EQ(limits.memory_used, 500000u);
}

TEST_F(Cgroup, NoLimitsAndNonsenseMeanNone) {
  write("proc/self/cgroup", "broken\n0::/../../..\n3:cpu:/\n4:memory:/a/b\n");
  write("sys/fs/cgroup/cpu.max", "soon 0\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const CgroupLimits limits = cgroup_limits(root_);
  EXPECT_EQ(limits.cpus, 0);
  EXPECT_EQ(limits.memory_limit, 0u);
  EXPECT_EQ(cgroup_limits(root_ / "nowhere").cpus, 0);
}

TEST(Bandwidth, IsMeasuredInTheTimeGiven) {
  const auto start = std::chrono::steady_clock::now();
  const Bandwidth b = measure_bandwidth({.threads = 2, .bytes = uint64_t{24} << 20, .seconds = 0.1});
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 20.0);
  EXPECT_EQ(b.threads, 2);
  for (const double speed : {b.copy_gb_per_s, b.triad_gb_per_s}) {
    EXPECT_GT(speed, 0.05);
    EXPECT_LT(speed, 1e5);
  }
}

TEST(Machine, AsJsonAndText) {
  const Machine machine = describe_machine();
  const nlohmann::json json = to_json(machine);
  EXPECT_EQ(json["cpu"]["name"], machine.cpu.name);
  EXPECT_EQ(json["cpu"]["threads"], machine.cpu.threads());
  EXPECT_EQ(json["memory"]["total_bytes"], machine.memory.total);
  EXPECT_FALSE(json.contains("bandwidth"));
  EXPECT_TRUE(json["cpu"]["features"].is_array());
  EXPECT_EQ(nlohmann::json::parse(json.dump()), json);
  EXPECT_NE(to_text(machine).find(machine.cpu.key()), std::string::npos);
}

}  // namespace
}  // namespace deepseek::hardware
