// A progress bar on standard error with rate and time left; where that is no terminal, a plain line now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace deepseek::base {

class Progress {
 public:
  /// `total` 0: unknown. `unit`: "step", "B" (shown as MiB).
  Progress(std::string title, uint64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(uint64_t done, const std::string& suffix = "");
  /// Removes the bar; on no terminal, writes the last line.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] std::string line(uint64_t done, const std::string& suffix, size_t width) const;
  std::string title_, unit_, suffix_;
  uint64_t total_, done_ = 0, first_ = 0, shown_done_ = 0;
  Clock::time_point begin_ = Clock::now(), shown_{};
  bool terminal_, started_ = false, finished_ = false;
};

}  // namespace deepseek::base
