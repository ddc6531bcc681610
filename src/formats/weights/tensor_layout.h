// Checked arithmetic on shapes that came from outside, and names fit for a message. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

/// Product of the dimensions; nullopt where one is negative or the product exceeds 2^62.
[[nodiscard]] std::optional<int64_t> element_count(std::span<const int64_t> shape);

/// Bytes of a tensor; nullopt on overflow, or where the last dimension is no multiple of the type's block.
[[nodiscard]] std::optional<uint64_t> byte_count(DType type, std::span<const int64_t> shape);

/// A name from a file as a message may show it: valid UTF-8, no control characters, at most about 120 bytes, in quotes.
[[nodiscard]] std::string shown_name(std::string_view name);

/// What a file that is no model may be by its first bytes, as the end of a sentence (": it is ..."); empty where that is not known.
[[nodiscard]] std::string mistaken_for(std::span<const std::byte> file);

/// "[2, 3]"
[[nodiscard]] std::string shape_text(std::span<const int64_t> shape);

}  // namespace deepseek::formats
