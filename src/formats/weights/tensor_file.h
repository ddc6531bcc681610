// What every weights file offers: named tensors with a type, a shape and bytes, read from a memory map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::formats {

/// Element types of safetensors and GGUF. Block types store several elements in one block of bytes.
enum class DType {
  kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool,
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K,
};

[[nodiscard]] const char* dtype_name(DType type);

/// Elements and bytes of one block; {1, element size} for plain types.
struct BlockSize {
  int64_t elements;
  int64_t bytes;
};
[[nodiscard]] BlockSize block_size(DType type);

/// One tensor inside a mapped file. `shape` is row-major, outermost first (GGUF's order is reversed on reading).
struct TensorInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  ///< Valid as long as the file that it came from.
  size_t file = 0;                   ///< Index of the shard that holds it.
  [[nodiscard]] int64_t elements() const;
};

/// Fails where a tensor has another shape than the configuration asks for.
[[nodiscard]] base::Status check_shape(const TensorInfo& info, const std::vector<int64_t>& shape);

/// Decodes `info` to f32: out.size() == info.elements(). Any type but kI64/kI32/kI16/kBool... is covered; those fail.
[[nodiscard]] base::Status dequantize(const TensorInfo& info, std::span<float> out);

/// Decodes a part of a tensor: elements [begin, begin + out.size()), both multiples of the block's elements.
[[nodiscard]] base::Status dequantize_range(const TensorInfo& info, int64_t begin, std::span<float> out);

}  // namespace deepseek::formats
