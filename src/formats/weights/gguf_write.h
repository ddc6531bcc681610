// Writes GGUF version 3, as llama.cpp reads it. Source: ggml's GGUF specification.
#pragma once

#include "formats/weights/gguf.h"
#include "formats/weights/safetensors.h"

namespace deepseek::formats {

/// Metadata in the order it is given. A key may be given once; readers look for the exact types.
class GgufMetadata {
 public:
  void integer(const std::string& key, uint32_t value);
  void number(const std::string& key, float value);
  void boolean(const std::string& key, bool value);
  void text(const std::string& key, std::string_view value);
  void texts(const std::string& key, std::span<const std::string> values);
  void integers(const std::string& key, std::span<const int32_t> values);
  void numbers(const std::string& key, std::span<const float> values);
  /// A value of another file, as Gguf::stored_metadata() gives it.
  void stored(const std::string& key, std::span<const std::byte> type_and_value);

  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void key(const std::string& name, uint32_t type);
  void append(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  void append_text(std::string_view value);
  uint64_t count_ = 0;
  std::string bytes_;
};

/// Atomically; same input, same bytes. Shapes are row-major, outermost first, as everywhere here. Errors: a full disk, a name twice,
/// bytes that do not fit type and shape.
[[nodiscard]] base::Status write_gguf(const base::fs::path& path, const GgufMetadata& metadata, const std::vector<TensorToWrite>& tensors);

}  // namespace deepseek::formats
