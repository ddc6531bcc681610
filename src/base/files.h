// Files: read, map, and write so that a full disk or a killed process never loses the old content.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace deepseek::base {

namespace fs = std::filesystem;

/// A whole file as bytes. Fails above `max_bytes`.
[[nodiscard]] Result<std::string> read_file(const fs::path& path, size_t max_bytes = size_t{1} << 31);

/// Writes beside `path`, flushes to the disk and renames over it: readers see the old file or the new one, never half of one.
[[nodiscard]] Status write_file_atomically(const fs::path& path, std::string_view content);

/// A file written in pieces under a temporary name beside its final one; commit() flushes and renames.
/// Without commit() the destructor removes what was written.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const fs::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();
  [[nodiscard]] Status write(const void* data, size_t size);
  [[nodiscard]] Status write(std::string_view text) { return write(text.data(), text.size()); }
  [[nodiscard]] Status commit();

 private:
  AtomicFile(fs::path path, fs::path temporary, int fd);
  fs::path path_, temporary_;
  int fd_ = -1;
};

/// Read-only memory map of a whole file; an empty file maps to an empty span.
class MappedFile {
 public:
  static Result<MappedFile> open(const fs::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  [[nodiscard]] std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  [[nodiscard]] const fs::path& path() const { return path_; }
  /// Tells the kernel that these bytes are not needed again soon, so that they do not count as resident memory.
  void release_pages(size_t offset, size_t size) const;

 private:
  fs::path path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

/// Flushes a directory so that renames inside it survive a power cut.
void flush_directory(const fs::path& directory);

/// The directory for this project's caches: $DEEPSEEK_CACHE, else $XDG_CACHE_HOME/deepseek, else ~/.cache/deepseek.
[[nodiscard]] fs::path cache_directory();

}  // namespace deepseek::base
