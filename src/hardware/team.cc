#include "hardware/team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <system_error>

#include "hardware/cpu.h"

namespace deepseek::hardware {
namespace {

constexpr int kSpins = 4000;  // some 50 us: longer than any wait of a pass on a quiet machine

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` is no longer `old`.
void await_change(std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_briefly();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

// The n-th processor of those that the process may use.
void pin(int n) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int c = 0, seen = 0; c < CPU_SETSIZE; ++c) {
    if (!CPU_ISSET(c, &allowed) || seen++ != n) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(c, &one);
    ::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

Team::Team(int size) {
  const int wanted = size > 0 ? size : cpu().compute_threads();
  threads_.reserve(static_cast<size_t>(wanted));
  size_ = wanted;
  for (int t = 1; t < wanted; ++t) {
    try {
      threads_.emplace_back([this, t, pinned = wanted <= cpu().allowed_cpus] {
        if (pinned) pin(t);
        loop(t);
      });
    } catch (const std::system_error&) {
      // Those that began count on size_ only inside run(), which has not been called.
      size_ = t;
      break;
    }
  }
}

Team::~Team() {
  ending_ = true;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Team::loop(int thread) {
  uint32_t seen = 0;
  while (true) {
    await_change(started_, seen);
    ++seen;
    if (ending_) return;
    (*body_)(thread);
    barrier();
  }
}

void Team::run(const std::function<void(int)>& body) {
  if (size_ == 1) {
    body(0);
    return;
  }
  body_ = &body;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  body(0);
  barrier();
}

void Team::barrier() {
  if (size_ == 1) {
    next_.store(0, std::memory_order_relaxed);
    return;
  }
  const uint32_t passed = passed_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    waiting_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    passed_.store(passed + 1, std::memory_order_release);
    passed_.notify_all();
    return;
  }
  await_change(passed_, passed);
}

}  // namespace deepseek::hardware
