// The header of one safetensors file, parsed and checked. Private to this folder.
#pragma once

#include <span>

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

/// The metadata that names block types: a JSON object from tensor to "Q4_0".
constexpr const char* kBlocksKey = "deepseek.blocks";

struct SafeTensorsHeader {
  std::vector<TensorInfo> tensors;  ///< In the order of their bytes, which lie in the span that was parsed.
  std::map<std::string, std::string> metadata;
};

/// Errors do not name the file.
[[nodiscard]] base::Result<SafeTensorsHeader> parse_safetensors(std::span<const std::byte> file);

}  // namespace deepseek::formats
