// Any bytes as a safetensors file; what opens is read whole.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string kPath = "/dev/shm/fuzz-safetensors-" + std::to_string(::getpid()) + ".safetensors";
  std::FILE* file = std::fopen(kPath.c_str(), "wb");
  if (file == nullptr) return 0;
  std::fwrite(data, 1, size, file);
  std::fclose(file);
  const auto tensors = deepseek::formats::SafeTensors::open(kPath);
  ::unlink(kPath.c_str());
  if (!tensors) return 0;
  for (const auto& tensor : tensors->tensors()) {
    (void)deepseek::formats::check_finite(tensor);
    if (tensor.elements() <= 0 || tensor.elements() > (1 << 20)) continue;
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    (void)deepseek::formats::dequantize(tensor, values);
  }
  return 0;
}
