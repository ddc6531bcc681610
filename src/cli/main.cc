#include <unistd.h>

#include <cstdio>

#include "cli/command.h"

int main(int argc, char** argv) {
  const int code = deepseek::cli::run(argc, argv);
  std::fflush(nullptr);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return code;
#else
  ::_exit(code);  // libtorch takes 70 ms to unload
#endif
}
