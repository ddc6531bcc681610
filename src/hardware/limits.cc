#include "hardware/limits.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "hardware/cpu.h"
#include "hardware/memory.h"

namespace deepseek::hardware {
namespace {

using Clock = std::chrono::steady_clock;

struct Arrays {
  size_t count;  // elements of each
  std::unique_ptr<double[]> a, b, c;
};

// The last-level cache may hold the arrays of neighbours too, so several times its size.
uint64_t default_bytes() {
  const uint64_t wanted = std::max<uint64_t>(6 * cpu().l3_bytes, uint64_t{96} << 20);
  return std::max<uint64_t>(std::min({wanted, memory().available / 8, uint64_t{3} << 30}), uint64_t{1} << 20);
}

void copy(double* __restrict a, const double* __restrict b, size_t n) {
  for (size_t i = 0; i < n; ++i) a[i] = b[i];
}

void triad(double* __restrict a, const double* __restrict b, const double* __restrict c, size_t n) {
  for (size_t i = 0; i < n; ++i) a[i] = b[i] + 3.0 * c[i];
}

// One thread's work: `begin` and `end` of its share. All threads start each pass together.
using Pass = std::function<void(size_t begin, size_t end)>;

double best_seconds(const Pass& pass, const Arrays& arrays, int threads, double seconds) {
  double best = 1e30;
  Clock::time_point started{};
  const Clock::time_point deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  int passes = 0;
  bool done = false, running = false;
  // Runs once when all threads have arrived: alternately at the beginning and at the end of a pass.
  const auto arrived = [&]() noexcept {
    const auto now = Clock::now();
    if (running) {
      if (passes > 0) best = std::min(best, std::chrono::duration<double>(now - started).count());
      ++passes;
      done = passes >= 3 && now >= deadline;
    }
    running = !running;
    started = now;
  };
  std::barrier barrier(threads, arrived);
  const auto work = [&](int index) {
    const size_t share = arrays.count / static_cast<size_t>(threads), begin = share * static_cast<size_t>(index);
    const size_t end = index + 1 == threads ? arrays.count : begin + share;
    while (true) {
      barrier.arrive_and_wait();
      pass(begin, end);
      barrier.arrive_and_wait();
      if (done) return;
    }
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work, i);
  work(0);
  others.clear();
  return best;
}

}  // namespace

Bandwidth measure_bandwidth(const BandwidthOptions& options) {
  Bandwidth result;
  result.threads = std::clamp(options.threads > 0 ? options.threads : cpu().threads(), 1, 1024);
  const uint64_t bytes = options.bytes > 0 ? options.bytes : default_bytes();
  Arrays arrays;
  arrays.count = static_cast<size_t>(std::max<uint64_t>(bytes / 24, 1024));
  const auto array = [&] { return std::unique_ptr<double[]>(new (std::nothrow) double[arrays.count]); };
  arrays.a = array(), arrays.b = array(), arrays.c = array();
  if (!arrays.a || !arrays.b || !arrays.c) return result;
  double *a = arrays.a.get(), *b = arrays.b.get(), *c = arrays.c.get();
  result.bytes = arrays.count * 24;
  // Each thread touches its own share first, so that the pages lie in its own memory.
  best_seconds([=](size_t begin, size_t end) {
    std::fill(a + begin, a + end, 0.0), std::fill(b + begin, b + end, 1.0), std::fill(c + begin, c + end, 2.0);
  }, arrays, result.threads, 0);
  const double half = std::clamp(options.seconds, 0.0, 60.0) / 2;
  const double copying = best_seconds([=](size_t i, size_t end) { copy(a + i, b + i, end - i); }, arrays, result.threads, half);
  const double adding = best_seconds([=](size_t i, size_t end) { triad(a + i, b + i, c + i, end - i); }, arrays, result.threads, half);
  if (a[arrays.count / 2] != 7.0) std::abort();  // uses the result, so that no pass can be left out
  const double count = static_cast<double>(arrays.count);
  result.copy_gb_per_s = 16 * count / copying / 1e9;
  result.triad_gb_per_s = 24 * count / adding / 1e9;
  return result;
}

}  // namespace deepseek::hardware
