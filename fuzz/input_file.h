// A fuzzer's input for a reader that wants a file.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace deepseek::fuzz {

/// What `open(path)` makes of the bytes in a file in memory whose name ends with `ending` (".gguf"); the file is gone afterwards.
template <typename Open>
auto open_input(const uint8_t* data, size_t size, const std::string& ending, const Open& open) {
  static const std::string kPath = "/dev/shm/fuzz-" + std::to_string(::getpid()) + ending;
  if (std::FILE* file = std::fopen(kPath.c_str(), "wb"); file != nullptr) {
    std::fwrite(data, 1, size, file);
    std::fclose(file);
  }
  auto opened = open(kPath);
  ::unlink(kPath.c_str());
  return opened;
}

}  // namespace deepseek::fuzz
