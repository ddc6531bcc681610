#include "base/process.h"

#include <unistd.h>

#include <cstdlib>

namespace deepseek::base {

void restart_with_brief_spin(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "2000", 1);
  ::execv("/proc/self/exe", argv);
}

}  // namespace deepseek::base
