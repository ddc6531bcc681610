// Reads GGUF's header from bytes in memory; every length is checked against what is left. Private to this folder.
#pragma once

#include <cstring>
#include <set>
#include <span>

#include "formats/weights/gguf.h"

namespace deepseek::formats {

class GgufParser {
 public:
  explicit GgufParser(std::span<const std::byte> bytes) : bytes_(bytes) {}
  /// Fills `metadata` and `tensors`; errors do not name the file.
  [[nodiscard]] base::Status parse();

  std::map<std::string, GgufValue> metadata;
  std::vector<std::pair<std::string, std::span<const std::byte>>> stored;  ///< each value with its type, in the order of the file
  std::vector<TensorInfo> tensors;

 private:
  struct Pending {
    uint64_t offset;
    uint64_t size;
  };

  [[nodiscard]] size_t left() const { return bytes_.size() - at_; }
  template <typename T>
  [[nodiscard]] base::Result<T> read();
  [[nodiscard]] base::Result<std::string> read_string(size_t longest);
  [[nodiscard]] base::Result<GgufValue> read_value(uint32_t type, int depth);
  [[nodiscard]] base::Result<GgufValue> read_array(int depth);
  template <typename T, typename Element>
  [[nodiscard]] base::Status read_elements(uint64_t count, std::vector<Element>& elements);
  [[nodiscard]] base::Status read_strings(uint64_t count, std::vector<std::string>& strings);
  [[nodiscard]] base::Status read_nested(uint64_t count, int depth, std::vector<GgufValue>& nested);
  [[nodiscard]] base::Status fill_array(uint32_t type, uint64_t count, int depth, GgufArray& array);
  [[nodiscard]] base::Status read_header();
  [[nodiscard]] base::Status read_metadata();
  [[nodiscard]] base::Status read_tensor(std::set<std::string>& names);
  [[nodiscard]] base::Status read_alignment();
  [[nodiscard]] base::Status place_tensors();
  [[nodiscard]] base::Status check_overlaps() const;

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t value_count_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Pending> pending_;
};

}  // namespace deepseek::formats
