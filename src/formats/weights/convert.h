// Conversions between f32 and the 16-bit floats, one value or an array; round to nearest even, NaN stays NaN.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace deepseek::formats {

[[nodiscard]] inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

[[nodiscard]] inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet_nan : rounded);
}

[[nodiscard]] inline float f16_to_f32(uint16_t bits) {
  const uint32_t magnitude = (bits & 0x7FFFu) << 13;
  constexpr uint32_t kRebias = (127 - 15) << 23;
  constexpr uint32_t kSmallestNormal = 113 << 23;  // 2^-14: added and subtracted, it normalises a subnormal.
  const uint32_t normal = magnitude + kRebias;
  const uint32_t special = magnitude + 2 * kRebias;
  const float subnormal = std::bit_cast<float>(magnitude | kSmallestNormal) - std::bit_cast<float>(kSmallestNormal);
  uint32_t result = magnitude < (1u << 23) ? std::bit_cast<uint32_t>(subnormal) : normal;
  result = magnitude >= (31u << 23) ? special : result;
  return std::bit_cast<float>(result | (uint32_t{bits} & 0x8000u) << 16);
}

[[nodiscard]] inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  constexpr uint32_t kHalf = 126 << 23;  // 0.5f has an f16 subnormal's last place as its own.
  const float shifted = std::bit_cast<float>(magnitude) + std::bit_cast<float>(kHalf);
  const uint32_t subnormal = std::bit_cast<uint32_t>(shifted) - kHalf;
  const uint32_t normal = (magnitude - ((127 - 15) << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  uint32_t result = magnitude < (113u << 23) ? subnormal : normal;
  result = magnitude >= (143u << 23) ? 0x7C00 : result;
  result = magnitude > 0x7F800000 ? 0x7E00 | ((magnitude >> 13) & 0x3FF) : result;
  return static_cast<uint16_t>(result | (bits >> 16 & 0x8000));
}

/// Arrays; `in` and `out` have the same length and do not overlap.
void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out);
void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out);
void f16_to_f32(std::span<const uint16_t> in, std::span<float> out);
void f32_to_f16(std::span<const float> in, std::span<uint16_t> out);

}  // namespace deepseek::formats
