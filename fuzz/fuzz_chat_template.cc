// Any bytes as a chat template.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "formats/chat_template/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto made = deepseek::formats::ChatTemplate::compile({reinterpret_cast<const char*>(data), size});
  if (made) (void)made->render({{"system", "s"}, {"user", "a b"}, {"assistant", "c"}, {"user", "d"}}, true, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  return 0;
}
