// One process at a time pulls a model.
#pragma once

#include <string>

#include "base/files.h"

namespace deepseek::models {

/// Held until it is destroyed, also by a process that is killed.
class PullLock {
 public:
  /// Waits for another process that pulls `what`, and says so. Errors: a file that cannot be created, Ctrl-C while it waits.
  [[nodiscard]] static base::Result<PullLock> take(const base::fs::path& file, const std::string& what);
  PullLock(PullLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  PullLock& operator=(PullLock&&) = delete;
  ~PullLock();

 private:
  explicit PullLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace deepseek::models
