// Any bytes as a GGUF file; what opens is read whole.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats/tokenizer/tokenizer.h"
#include "formats/weights/gguf.h"
#include "formats/weights/non_finite.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto gguf = deepseek::fuzz::open_input(data, size, ".gguf", deepseek::formats::Gguf::open);
  if (!gguf) return 0;
  for (const auto& tensor : gguf->tensors()) {
    (void)deepseek::formats::check_finite(tensor);
    if (tensor.elements() <= 0 || tensor.elements() > (1 << 20)) continue;
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    (void)deepseek::formats::dequantize(tensor, values);
  }
  const auto tokenizer = deepseek::formats::Tokenizer::from_gguf(*gguf);
  if (!tokenizer) return 0;
  (void)tokenizer->decode(tokenizer->encode("ab 12\n"), false);
  (void)deepseek::formats::Tokenizer::parse(tokenizer->to_json());
  return 0;
}
