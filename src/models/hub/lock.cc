#include "models/hub/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/log.h"
#include "base/signals.h"

namespace deepseek::models {

base::Result<PullLock> PullLock::take(const base::fs::path& file, const std::string& what) {
  PullLock lock(::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  if (lock.fd_ < 0) return base::fail("cannot write {}: {}", file.string(), std::strerror(errno));
  for (bool told = false; ::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0; told = true) {
    if (errno != EWOULDBLOCK && errno != EINTR) break;  // a file system without locks: better two at once than none
    if (base::interrupted()) return base::fail("interrupted while another process pulls {}", what);
    if (!told) base::log_info("another process pulls " + what + ", waiting for it");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return lock;
}

PullLock::~PullLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace deepseek::models
