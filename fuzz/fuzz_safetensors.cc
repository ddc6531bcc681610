// Any bytes as a safetensors file; what opens is read whole.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensors = deepseek::fuzz::open_input(data, size, ".safetensors", deepseek::formats::SafeTensors::open);
  if (!tensors) return 0;
  for (const auto& tensor : tensors->tensors()) {
    (void)deepseek::formats::check_finite(tensor);
    if (tensor.elements() <= 0 || tensor.elements() > (1 << 20)) continue;
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    (void)deepseek::formats::dequantize(tensor, values);
  }
  return 0;
}
