// A tokenizer.json, then, after a line of "----", text to encode and decode.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "formats/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find("\n----\n");
  const auto tokenizer = deepseek::formats::Tokenizer::parse(input.substr(0, cut));
  if (!tokenizer) return 0;
  const auto ids = tokenizer->encode(cut == std::string_view::npos ? "ab 12\n" : input.substr(cut + 6));
  (void)tokenizer->decode(ids, false);
  deepseek::formats::StreamDecoder stream(*tokenizer);
  for (size_t i = 0; i < ids.size() && i < 64; ++i) (void)stream.push(ids[i]);
  (void)stream.finish();
  return 0;
}
