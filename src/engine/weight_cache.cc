#include "engine/weight_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <string>

namespace deepseek::engine {
namespace {

namespace fs = base::fs;
using kernels::PackedFormat;
using kernels::PackedMatrix;

// [Header][Entry * entries][checksum * chunks][padding to 64][matrices, 64-byte aligned]; numbers as this machine has them.
constexpr std::array<char, 8> kMagic{'D', 'S', 'P', 'A', 'C', 'K', 'E', 'D'};
constexpr uint32_t kVersion = 1;  // of this layout and of PackedMatrix's
constexpr uint64_t kChunk = uint64_t{4} << 20, kAlignment = 64, kMostEntries = 1 << 20;

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion, entries = 0;
  uint64_t stamp = 0, payload = 0;
  uint64_t table_checksum = 0;  // of the entries and the chunks' checksums
};
struct Entry {
  int64_t rows = 0, columns = 0;
  uint64_t offset = 0;  // in the payload
  int32_t bits = 0, block = 0, zero = 0;
  uint8_t mins = 0, super = 0, unused[2] = {};
};

uint64_t padded(uint64_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }
uint64_t chunks_of(uint64_t payload) { return (payload + kChunk - 1) / kChunk; }

struct File {
  int fd = -1;
  explicit File(const fs::path& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  [[nodiscard]] bool read(void* to, uint64_t size, uint64_t offset) const {
    for (auto* at = static_cast<char*>(to); size > 0;) {
      const ssize_t got = ::pread(fd, at, size, static_cast<off_t>(offset));
      if (got <= 0) return false;
      at += got;
      offset += static_cast<uint64_t>(got);
      size -= static_cast<uint64_t>(got);
    }
    return true;
  }
  [[nodiscard]] uint64_t size() const {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  }
};

struct Table {
  Header header;
  std::vector<Entry> entries;
  std::vector<uint64_t> checksums;
  [[nodiscard]] uint64_t payload_offset() const { return padded(sizeof(Header) + entries.size() * sizeof(Entry) + checksums.size() * 8); }
  [[nodiscard]] uint64_t checksum() const {
    const uint64_t first = XXH3_64bits(entries.data(), entries.size() * sizeof(Entry));
    return XXH3_64bits_withSeed(checksums.data(), checksums.size() * 8, first);
  }
};

// Formats that the kernels know; anything else is damage.
bool known(const PackedFormat& format) {
  namespace f = kernels::packed_formats;
  const PackedFormat all[] = {f::kQ4_0, f::kQ4_1, f::kQ5_0, f::kQ5_1, f::kQ8_0, f::kQ4_K, f::kQ5_K, f::kQ6_K, f::kBF16, f::kF32};
  return std::find(std::begin(all), std::end(all), format) != std::end(all);
}

PackedFormat format_of(const Entry& e) { return {e.bits, e.block, e.zero, e.mins != 0, e.super != 0}; }

bool fits(const Entry& e, uint64_t payload) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (e.rows <= 0 || e.columns <= 0 || e.rows > kMost || e.columns > kMost || !known(format_of(e)) || e.offset % kAlignment != 0) return false;
  const uint64_t bytes = PackedMatrix::byte_count(format_of(e), e.rows, e.columns);
  return e.offset <= payload && bytes <= payload - e.offset;
}

std::optional<Table> read_table(const File& file, uint64_t stamp) {
  Table table;
  Header& header = table.header;
  if (file.fd < 0 || !file.read(&header, sizeof(header), 0)) return std::nullopt;
  const uint64_t size = file.size();
  if (header.magic != kMagic || header.version != kVersion || header.stamp != stamp || header.entries > kMostEntries || header.payload > size) return std::nullopt;
  table.entries.resize(header.entries);
  table.checksums.resize(chunks_of(header.payload));
  const uint64_t entry_bytes = table.entries.size() * sizeof(Entry);
  if (!file.read(table.entries.data(), entry_bytes, sizeof(header))) return std::nullopt;
  if (!file.read(table.checksums.data(), table.checksums.size() * 8, sizeof(header) + entry_bytes)) return std::nullopt;
  if (table.checksum() != header.table_checksum || table.payload_offset() + header.payload != size) return std::nullopt;
  for (const Entry& entry : table.entries) {
    if (!fits(entry, header.payload)) return std::nullopt;
  }
  return table;
}

}  // namespace

fs::path weight_cache_path(const fs::path& model) {
  std::error_code error;
  const bool directory = fs::is_directory(model, error);
  const fs::path folder = directory ? model : fs::absolute(model, error).parent_path();
  if (::access(folder.c_str(), W_OK) == 0) return directory ? model / "weights.packed" : fs::path(model.string() + ".packed");
  const std::string path = fs::weakly_canonical(model, error).string();
  return base::cache_directory() / "packed" / fmt::format("{:016x}.packed", XXH3_64bits(path.data(), path.size()));
}

uint64_t model_stamp(const fs::path& model) {
  std::string text;
  const auto add = [&](const fs::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) return;
    text += fmt::format("{}\n{} {} {} {}\n", file.filename().string(), status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  };
  std::error_code error;
  if (fs::is_directory(model, error)) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(model, error)) {
      if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".json") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) add(file);
  } else {
    add(model);
  }
  return XXH3_64bits(text.data(), text.size());
}

std::optional<CachedMatrices> read_weight_cache(const fs::path& path, uint64_t stamp, hardware::Team& team) {
  const File file(path);
  const auto table = read_table(file, stamp);
  if (!table) return std::nullopt;
  const uint64_t payload = table->header.payload;
  CachedMatrices out;
  try {
    out.memory = hardware::allocate_huge(payload);
  } catch (const std::bad_alloc&) {
    return std::nullopt;
  }
  std::atomic<bool> sound{true};
  team.run([&](int) {
    team.share(static_cast<int64_t>(table->checksums.size()), 1, [&](int64_t chunk, int64_t) {
      const uint64_t at = static_cast<uint64_t>(chunk) * kChunk, size = std::min(kChunk, payload - at);
      const bool same = file.read(out.memory.get() + at, size, table->payload_offset() + at) &&
                        XXH3_64bits(out.memory.get() + at, size) == table->checksums[static_cast<size_t>(chunk)];
      if (!same) sound = false;
    });
  });
  if (!sound) return std::nullopt;
  for (const Entry& e : table->entries) {
    const auto format = format_of(e);
    const std::span<const std::byte> bytes(out.memory.get() + e.offset, PackedMatrix::byte_count(format, e.rows, e.columns));
    out.matrices.emplace_back(format, e.rows, e.columns, bytes);
  }
  return out;
}

base::Status write_weight_cache(const fs::path& path, uint64_t stamp, std::span<const PackedMatrix* const> matrices) {
  std::error_code error;
  if (!path.parent_path().empty()) fs::create_directories(path.parent_path(), error);
  Table table;
  for (const auto* matrix : matrices) {
    const auto& f = matrix->format();
    table.entries.push_back({matrix->rows(), matrix->columns(), table.header.payload, f.bits, f.block, f.zero, f.mins, f.super, {}});
    table.header.payload += padded(matrix->bytes().size());
  }
  table.header.entries = static_cast<uint32_t>(table.entries.size());
  table.header.stamp = stamp;
  table.checksums.resize(chunks_of(table.header.payload));

  // What follows the table, in order, 64 bytes at a time of padding at most.
  const auto each_piece = [&](const auto& body) -> base::Status {
    constexpr std::byte kZeros[kAlignment] = {};
    for (const auto* matrix : matrices) {
      const auto bytes = matrix->bytes();
      if (auto done = body(bytes.data(), bytes.size()); !done) return done;
      if (auto done = body(kZeros, padded(bytes.size()) - bytes.size()); !done) return done;
    }
    return {};
  };
  XXH3_state_t state;
  uint64_t filled = 0, chunk = 0;
  XXH3_64bits_reset(&state);
  const auto finish_chunk = [&] {
    table.checksums[chunk++] = XXH3_64bits_digest(&state);
    XXH3_64bits_reset(&state);
    filled = 0;
  };
  const auto hashed = each_piece([&](const std::byte* data, size_t size) -> base::Status {
    while (size > 0) {
      const size_t part = std::min<size_t>(size, kChunk - filled);
      XXH3_64bits_update(&state, data, part);
      data += part;
      size -= part;
      if ((filled += part) == kChunk) finish_chunk();
    }
    return {};
  });
  if (!hashed) return hashed;
  if (filled > 0) finish_chunk();
  table.header.table_checksum = table.checksum();

  auto file = base::AtomicFile::create(path);
  if (!file) return base::pass(file);
  const std::string padding(table.payload_offset() - sizeof(Header) - table.entries.size() * sizeof(Entry) - table.checksums.size() * 8, '\0');
  if (auto done = file->write(&table.header, sizeof(Header)); !done) return done;
  if (auto done = file->write(table.entries.data(), table.entries.size() * sizeof(Entry)); !done) return done;
  if (auto done = file->write(table.checksums.data(), table.checksums.size() * 8); !done) return done;
  if (auto done = file->write(padding); !done) return done;
  if (auto done = each_piece([&](const std::byte* data, size_t size) { return file->write(data, size); }); !done) return done;
  return file->commit();
}

}  // namespace deepseek::engine
