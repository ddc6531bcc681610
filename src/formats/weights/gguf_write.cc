#include "formats/weights/gguf_write.h"

#include <algorithm>
#include <set>

#include "formats/weights/gguf_types.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

using base::fail;

constexpr uint64_t kAlignment = 32;  // what holds where general.alignment is absent
constexpr uint32_t kVersion = 3;

uint64_t aligned(uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::optional<uint32_t> type_id(DType type) {
  for (const auto& row : kGgufTensorTypes) {
    if (row.type == type) return row.id;
  }
  return std::nullopt;
}

base::Result<std::string> header_of(const GgufMetadata& metadata, const std::vector<TensorToWrite>& tensors) {
  std::string out = "GGUF";
  append(out, kVersion);
  append(out, uint64_t{tensors.size()});
  append(out, metadata.count());
  out += metadata.bytes();
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const std::string name = shown_name(tensor.name);
    const auto id = type_id(tensor.type);
    if (!id) return fail("tensor {}: GGUF has no type {}", name, dtype_name(tensor.type));
    const auto size = byte_count(tensor.type, tensor.shape);
    if (!size || *size != tensor.bytes.size()) {
      return fail("tensor {}: {} bytes do not match type {} and shape {}", name, tensor.bytes.size(), dtype_name(tensor.type), shape_text(tensor.shape));
    }
    if (!names.insert(tensor.name).second) return fail("tensor {} is given twice", name);
    append(out, uint64_t{tensor.name.size()});
    out += tensor.name;
    append(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto dimension = tensor.shape.rbegin(); dimension != tensor.shape.rend(); ++dimension) append(out, static_cast<uint64_t>(*dimension));
    append(out, *id);
    append(out, offset);
    offset = aligned(offset + *size);
  }
  out.append(static_cast<size_t>(aligned(out.size()) - out.size()), '\0');
  return out;
}

}  // namespace

void GgufMetadata::append_text(std::string_view value) {
  const uint64_t size = value.size();
  append(&size, sizeof(size));
  append(value.data(), value.size());
}

void GgufMetadata::key(const std::string& name, uint32_t type) {
  ++count_;
  append_text(name);
  append(&type, sizeof(type));
}

void GgufMetadata::integer(const std::string& name, uint32_t value) {
  key(name, kU32);
  append(&value, sizeof(value));
}

void GgufMetadata::number(const std::string& name, float value) {
  key(name, kF32);
  append(&value, sizeof(value));
}

void GgufMetadata::boolean(const std::string& name, bool value) {
  key(name, kBool);
  bytes_.push_back(value ? 1 : 0);
}

void GgufMetadata::text(const std::string& name, std::string_view value) {
  key(name, kString);
  append_text(value);
}

void GgufMetadata::texts(const std::string& name, std::span<const std::string> values) {
  const uint32_t element = kString;
  const uint64_t size = values.size();
  key(name, kArray);
  append(&element, sizeof(element));
  append(&size, sizeof(size));
  for (const auto& value : values) append_text(value);
}

void GgufMetadata::integers(const std::string& name, std::span<const int32_t> values) {
  const uint32_t element = kI32;
  const uint64_t size = values.size();
  key(name, kArray);
  append(&element, sizeof(element));
  append(&size, sizeof(size));
  append(values.data(), values.size_bytes());
}

void GgufMetadata::numbers(const std::string& name, std::span<const float> values) {
  const uint32_t element = kF32;
  const uint64_t size = values.size();
  key(name, kArray);
  append(&element, sizeof(element));
  append(&size, sizeof(size));
  append(values.data(), values.size_bytes());
}

void GgufMetadata::stored(const std::string& name, std::span<const std::byte> type_and_value) {
  ++count_;
  append_text(name);
  append(type_and_value.data(), type_and_value.size());
}

base::Status write_gguf(const base::fs::path& path, const GgufMetadata& metadata, const std::vector<TensorToWrite>& tensors) {
  const auto header = header_of(metadata, tensors);
  if (!header) return base::within(path.string(), header.error());
  auto file = base::AtomicFile::create(path);
  if (!file) return base::pass(file);
  if (auto written = file->write(*header); !written) return written;
  const std::string padding(kAlignment, '\0');
  for (const auto& tensor : tensors) {
    if (auto written = file->write(tensor.bytes.data(), tensor.bytes.size()); !written) return written;
    if (auto written = file->write(padding.data(), static_cast<size_t>(aligned(tensor.bytes.size()) - tensor.bytes.size())); !written) return written;
  }
  return file->commit();
}

}  // namespace deepseek::formats
