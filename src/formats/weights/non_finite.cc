#include "formats/weights/non_finite.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

template <typename T>
T load_at(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// All bits of the exponent set means NaN or infinity. Chunks let the common case run without a branch per element.
template <typename T>
std::optional<int64_t> find_plain(std::span<const std::byte> bytes, T exponent) {
  constexpr size_t kChunk = 4096;
  const size_t count = bytes.size() / sizeof(T);
  const auto bits_at = [&](size_t i) { return load_at<T>(bytes.data() + i * sizeof(T)); };
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = std::min(begin + kChunk, count);
    T found = 0;
    for (size_t i = begin; i < end; ++i) found |= static_cast<T>((bits_at(i) & exponent) == exponent);
    if (found == 0) continue;
    for (size_t i = begin; i < end; ++i) {
      if ((bits_at(i) & exponent) == exponent) return static_cast<int64_t>(i);
    }
  }
  return std::nullopt;
}

// Where the f16 scales (one or two in a row) stand in a block.
struct Scales {
  size_t offset;
  size_t count;
};

std::optional<Scales> scales_of(DType type) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kQ8_0: return Scales{0, 1};
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K: return Scales{0, 2};
    case DType::kQ2_K: return Scales{80, 2};
    case DType::kQ3_K: return Scales{108, 1};
    case DType::kQ6_K: return Scales{208, 1};
    default: return std::nullopt;
  }
}

std::optional<int64_t> find_in_scales(const TensorInfo& info, Scales scales) {
  constexpr uint16_t kExponent = 0x7C00;
  const auto block = block_size(info.type);
  const size_t size = static_cast<size_t>(block.bytes), count = info.bytes.size() / size;
  for (size_t b = 0; b < count; ++b) {
    for (size_t s = 0; s < scales.count; ++s) {
      const auto bits = load_at<uint16_t>(info.bytes.data() + b * size + scales.offset + 2 * s);
      if ((bits & kExponent) == kExponent) return static_cast<int64_t>(b) * block.elements;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> find_non_finite(const TensorInfo& info) {
  switch (info.type) {
    case DType::kF64: return find_plain<uint64_t>(info.bytes, 0x7FF0000000000000);
    case DType::kF32: return find_plain<uint32_t>(info.bytes, 0x7F800000);
    case DType::kF16: return find_plain<uint16_t>(info.bytes, 0x7C00);
    case DType::kBF16: return find_plain<uint16_t>(info.bytes, 0x7F80);
    default: break;
  }
  const auto scales = scales_of(info.type);
  return scales ? find_in_scales(info, *scales) : std::nullopt;
}

base::Status check_finite(const TensorInfo& info) {
  const auto found = find_non_finite(info);
  if (!found) return {};
  return base::fail("tensor {} of shape {} has NaN or infinity at element {}; the file is damaged or its training diverged, "
                    "use another copy", shown_name(info.name), shape_text(info.shape), *found);
}

}  // namespace deepseek::formats
