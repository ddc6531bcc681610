// safetensors: 8-byte little-endian header length, JSON header, tensor bytes. Source: the format's own specification.
#pragma once

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

/// A safetensors file, or a directory's `model.safetensors`, or its shards by `model.safetensors.index.json`.
class SafeTensors {
 public:
  /// Checks the whole header: sizes, offsets, overlaps, duplicate names, types; never trusts a length.
  [[nodiscard]] static base::Result<SafeTensors> open(const base::fs::path& file_or_directory);
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorInfo* find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] const std::vector<base::MappedFile>& files() const { return files_; }

 private:
  std::vector<base::MappedFile> files_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// One tensor to write; `bytes` must stay valid until the write returns.
struct TensorToWrite {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Block types (Q4_0, ...) become bytes, U8, with their type in the metadata; SafeTensors gives them back as they were.
/// Writes one file atomically; same input, same bytes. `metadata` becomes `__metadata__` ("format":"pt" is what Transformers asks for).
[[nodiscard]] base::Status write_safetensors(const base::fs::path& path, const std::vector<TensorToWrite>& tensors,
                                             const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// As above, in shards of at most `max_shard_bytes` with `model.safetensors.index.json`; one file where one is enough.
/// Writes into `directory` under the names that Transformers expects.
[[nodiscard]] base::Status write_safetensors_sharded(const base::fs::path& directory, const std::vector<TensorToWrite>& tensors,
                                                     uint64_t max_shard_bytes = uint64_t{5} << 30);

}  // namespace deepseek::formats
