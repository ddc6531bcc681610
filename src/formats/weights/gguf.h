// GGUF versions 2 and 3: metadata, tensor table, tensor bytes. Source: ggml's GGUF specification.
#pragma once

#include <cstdint>
#include <variant>

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

struct GgufArray;
/// A metadata value; integers of every width become int64_t or uint64_t, floats double.
using GgufValue = std::variant<int64_t, uint64_t, double, bool, std::string, std::shared_ptr<GgufArray>>;
/// A metadata array, kept in the form that is cheap for its element type (a vocabulary has 262,144 strings).
struct GgufArray {
  std::vector<int64_t> integers;
  std::vector<double> floats;
  std::vector<std::string> strings;
  std::vector<bool> booleans;
  std::vector<GgufValue> nested;
  [[nodiscard]] size_t size() const;
};

class Gguf {
 public:
  /// Checks magic, version, every count, length and offset against the file's size before it uses them.
  [[nodiscard]] static base::Result<Gguf> open(const base::fs::path& path);
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorInfo* find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  [[nodiscard]] const base::MappedFile& file() const { return file_; }
  /// Each metadata value as it lies in the file, its type before it, in the order of the file.
  [[nodiscard]] const std::vector<std::pair<std::string, std::span<const std::byte>>>& stored_metadata() const { return stored_; }

  /// Typed access; nullopt-like fallbacks where the key is absent or of another type.
  [[nodiscard]] std::string text(const std::string& key, std::string fallback = "") const;
  [[nodiscard]] int64_t integer(const std::string& key, int64_t fallback) const;
  [[nodiscard]] double number(const std::string& key, double fallback) const;
  [[nodiscard]] bool boolean(const std::string& key, bool fallback) const;
  [[nodiscard]] const GgufArray* array(const std::string& key) const;

 private:
  base::MappedFile file_;
  std::map<std::string, GgufValue> metadata_;
  std::vector<std::pair<std::string, std::span<const std::byte>>> stored_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> index_;
};

}  // namespace deepseek::formats
