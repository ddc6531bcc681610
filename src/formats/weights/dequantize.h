// Block decoders, one for each type: `blocks` blocks at `in` become `blocks * block_size(type).elements` floats. Private.
// Source of the layouts: ggml's block structures, as the `gguf` Python package decodes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/weights/convert.h"

namespace deepseek::formats {

using DecodeBlocks = void (*)(const uint8_t* in, size_t blocks, float* out);

void decode_q2_k(const uint8_t* in, size_t blocks, float* out);
void decode_q3_k(const uint8_t* in, size_t blocks, float* out);
void decode_q4_k(const uint8_t* in, size_t blocks, float* out);
void decode_q5_k(const uint8_t* in, size_t blocks, float* out);
void decode_q6_k(const uint8_t* in, size_t blocks, float* out);

/// An unaligned little-endian value; hosts are little-endian (checked in gguf_parser.cc).
template <typename T>
[[nodiscard]] inline T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

[[nodiscard]] inline float load_f16(const uint8_t* at) { return f16_to_f32(load<uint16_t>(at)); }

}  // namespace deepseek::formats
