#include "formats/weights/convert.h"

#include <algorithm>

namespace deepseek::formats {
namespace {

template <typename In, typename Out, typename Convert>
void convert_all(std::span<const In> in, std::span<Out> out, Convert convert) {
  const size_t size = std::min(in.size(), out.size());
  const In* __restrict from = in.data();
  Out* __restrict to = out.data();
  for (size_t i = 0; i < size; ++i) to[i] = convert(from[i]);
}

}  // namespace

void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out) {
  convert_all(in, out, [](uint16_t bits) { return bf16_to_f32(bits); });
}
void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out) {
  convert_all(in, out, [](float value) { return f32_to_bf16(value); });
}
void f16_to_f32(std::span<const uint16_t> in, std::span<float> out) {
  convert_all(in, out, [](uint16_t bits) { return f16_to_f32(bits); });
}
void f32_to_f16(std::span<const float> in, std::span<uint16_t> out) {
  convert_all(in, out, [](float value) { return f32_to_f16(value); });
}

}  // namespace deepseek::formats
