// Any bytes as an ONNX file; what is let through must be let through again, as it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "explain/scorers/onnx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto net = deepseek::explain::read_onnx({reinterpret_cast<const char*>(data), size}, 4);
  if (!net) return 0;
  const auto again = deepseek::explain::read_onnx(net->bytes, net->features);
  if (!again || again->features != net->features || again->input != net->input || again->output != net->output || again->bytes != net->bytes) std::abort();
  return 0;
}
