// Threads that stay: one fork for a whole pass through a model, cheap barriers inside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace deepseek::hardware {

/// size() threads, the caller among them, pinned to one core each where the process may choose. Between two runs they sleep; inside one
/// they spin briefly at a barrier and then sleep. One run at a time.
class Team {
 public:
  /// size 0: cpu().compute_threads(). Fewer where the system refuses to start so many.
  explicit Team(int size = 0);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] int size() const { return size_; }
  /// body(thread) on every thread; returns when all are done. Nothing that body throws may leave it.
  void run(const std::function<void(int thread)>& body);

  /// Inside run(): waits for all threads.
  void barrier();
  /// Inside run(), called by every thread with the same arguments: body(begin, end) over [0, count) in pieces of `piece`, each piece on
  /// the thread that comes first, then a barrier.
  template <typename Body>
  void share(int64_t count, int64_t piece, const Body& body) {
    while (true) {
      const int64_t begin = next_.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= count) break;
      body(begin, begin + piece < count ? begin + piece : count);
    }
    barrier();
  }

 private:
  void loop(int thread);

  int size_ = 1;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* body_ = nullptr;
  alignas(64) std::atomic<uint32_t> started_{0};  // runs begun; the threads wait for it to change
  alignas(64) std::atomic<uint32_t> waiting_{0};
  alignas(64) std::atomic<uint32_t> passed_{0};   // barriers passed
  alignas(64) std::atomic<int64_t> next_{0};
  std::atomic<bool> ending_{false};
};

}  // namespace deepseek::hardware
