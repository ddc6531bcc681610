// Any bytes as a dataset.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "formats/dataset/dataset.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)deepseek::formats::parse_dataset({reinterpret_cast<const char*>(data), size}, "input");
  return 0;
}
