#include "explain/scorers/protobuf.h"

namespace deepseek::explain::protobuf {
namespace {

std::optional<Field> take_field(std::string_view& text) {
  const std::string_view begin = text;
  const auto tag = take_varint(text);
  if (!tag || *tag >> 3 == 0 || *tag >> 3 >= (1u << 29)) return std::nullopt;
  Field field{.number = static_cast<uint32_t>(*tag >> 3), .wire = static_cast<uint32_t>(*tag & 7)};
  uint64_t length = 0;
  if (field.wire == kVarint || field.wire == kBytes) {
    const auto value = take_varint(text);
    if (!value) return std::nullopt;
    field.value = *value;
    length = field.wire == kBytes ? *value : 0;
  } else if (field.wire == kFixed64 || field.wire == kFixed32) {
    length = field.wire == kFixed64 ? 8 : 4;
  } else {
    return std::nullopt;
  }
  if (length > text.size()) return std::nullopt;
  field.bytes = text.substr(0, length);
  text.remove_prefix(length);
  field.whole = begin.substr(0, begin.size() - text.size());
  return field;
}

}  // namespace

std::optional<uint64_t> take_varint(std::string_view& text) {
  uint64_t value = 0;
  for (uint32_t shift = 0; shift < 64 && !text.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(text.front());
    text.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

std::optional<std::vector<Field>> fields_of(std::string_view text) {
  std::vector<Field> fields;
  while (!text.empty()) {
    auto field = take_field(text);
    if (!field) return std::nullopt;
    fields.push_back(*field);
  }
  return fields;
}

void put_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}

void put_number(std::string& to, uint32_t field, uint64_t value) {
  put_varint(to, field << 3 | kVarint);
  put_varint(to, value);
}

void put_bytes(std::string& to, uint32_t field, std::string_view bytes) {
  put_varint(to, field << 3 | kBytes);
  put_varint(to, bytes.size());
  to += bytes;
}

}  // namespace deepseek::explain::protobuf
