// Protobuf's wire format: fields of a message, read and written without a schema.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek::explain::protobuf {

enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

/// Views of the message that it was read from.
struct Field {
  uint32_t number = 0, wire = 0;
  uint64_t value = 0;      ///< of a varint; of bytes their length
  std::string_view bytes;  ///< of all others
  std::string_view whole;  ///< with its tag
};

/// Takes a varint from the front; nothing where it is cut off or longer than 64 bits.
[[nodiscard]] std::optional<uint64_t> take_varint(std::string_view& text);

/// All fields of a message in their order; nothing where one breaks or is longer than the message.
[[nodiscard]] std::optional<std::vector<Field>> fields_of(std::string_view text);

void put_varint(std::string& to, uint64_t value);
void put_number(std::string& to, uint32_t field, uint64_t value);
void put_bytes(std::string& to, uint32_t field, std::string_view bytes);

}  // namespace deepseek::explain::protobuf
