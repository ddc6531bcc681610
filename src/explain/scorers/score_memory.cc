// The file: a header (magic, version, outputs, hash of the identity), then records of a row's hash, its scores, and a checksum of both, all in the machine's order of bytes.
#include "explain/scorers/score_memory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr std::array<char, 8> kMagic{'d', 's', 's', 'c', 'o', 'r', 'e', 's'};
constexpr uint32_t kVersion = 1;
constexpr size_t kRowsAtATime = 4096;          // asked for and written at a time: what a kill costs at most
constexpr size_t kBytesAtATime = size_t{4} << 20;  // read at a time

struct Hash {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash&) const = default;
};
struct TakeLow {
  size_t operator()(const Hash& hash) const { return hash.low; }
};

Hash hash_of(const void* data, size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(data, size);
  return {hash.low64, hash.high64};
}

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion, outputs = 0;
  Hash identity;
};
static_assert(sizeof(Header) == 32);

Status write_whole(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = ::write(fd, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return base::fail("{}", std::strerror(count < 0 ? errno : ENOSPC));
    data += count;
    size -= static_cast<size_t>(count);
  }
  return {};
}

class ScoreMemory {
 public:
  ScoreMemory(TableModel::Score ask, base::fs::path path, size_t width, size_t outputs) : ask_(std::move(ask)), path_(std::move(path)), width_(width), outputs_(outputs) {}
  ScoreMemory(const ScoreMemory&) = delete;
  ScoreMemory& operator=(const ScoreMemory&) = delete;
  ~ScoreMemory() {
    if (fd_ >= 0) ::close(fd_);  // which gives the lock back
  }

  Status open(const std::string& identity) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return base::fail("cannot write {}: {}", path_.string(), std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return base::fail("another process writes scores to {}; give each its own file, or wait for it", path_.string());
      return base::fail("cannot lock {}: {}", path_.string(), std::strerror(errno));
    }
    const Header expected{.outputs = static_cast<uint32_t>(outputs_), .identity = hash_of(identity.data(), identity.size())};
    Header header{};
    const ssize_t count = ::pread(fd_, &header, sizeof(header), 0);
    if (count < 0) return base::fail("cannot read {}: {}", path_.string(), std::strerror(errno));
    if (count < static_cast<ssize_t>(sizeof(header))) return begin(header, static_cast<size_t>(count), expected);
    if (header.magic != kMagic) return base::fail("{} holds no scores; it is left as it is", path_.string());
    if (header.version != kVersion) return base::fail("{} is of version {}, which this program does not read; remove it, or give another file", path_.string(), header.version);
    if (header.identity != expected.identity || header.outputs != expected.outputs) {
      return base::fail("{} holds the scores of another model, or of other features; remove it, or give another file", path_.string());
    }
    return read_records();
  }

  Result<std::vector<double>> scores(std::span<const double> rows) {
    const std::lock_guard lock(one_at_a_time_);
    const size_t count = rows.size() / width_;
    std::vector<double> out;
    out.reserve(count * outputs_);
    for (size_t first = 0; first < count; first += kRowsAtATime) {
      const size_t part = std::min(kRowsAtATime, count - first);
      if (Status ok = add_scores(rows.subspan(first * width_, part * width_), out); !ok) return base::pass(ok);
    }
    return out;
  }

 private:
  [[nodiscard]] size_t record_bytes() const { return sizeof(Hash) + outputs_ * sizeof(double) + sizeof(uint64_t); }

  // A new file, or one whose header was cut off.
  Status begin(const Header& found, size_t count, const Header& header) {
    if (std::memcmp(&found, &header, std::min(count, sizeof(kMagic))) != 0) return base::fail("{} holds no scores; it is left as it is", path_.string());
    if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) return base::fail("cannot write {}: {}", path_.string(), std::strerror(errno));
    if (Status ok = write_whole(fd_, reinterpret_cast<const char*>(&header), sizeof(header)); !ok) return base::fail("cannot write {}: {}", path_.string(), ok.error().message);
    end_ = sizeof(header);
    return {};
  }

  // Up to the first record that is cut off or damaged; the next one is written over it.
  Status read_records() {
    const size_t size = record_bytes(), at_a_time = std::max<size_t>(kBytesAtATime / size, 1);
    std::string bytes(at_a_time * size, '\0');
    end_ = sizeof(Header);
    for (bool whole = true; whole;) {
      const ssize_t count = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(end_));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return base::fail("cannot read {}: {}", path_.string(), std::strerror(errno));
      const size_t records = static_cast<size_t>(count) / size;
      whole = records > 0;
      for (size_t r = 0; r < records && whole; ++r) {
        whole = take(bytes.data() + r * size);
        if (whole) end_ += size;
      }
    }
    if (::ftruncate(fd_, static_cast<off_t>(end_)) != 0 || ::lseek(fd_, static_cast<off_t>(end_), SEEK_SET) < 0) return base::fail("cannot write {}: {}", path_.string(), std::strerror(errno));
    return {};
  }

  bool take(const char* record) {
    const size_t body = record_bytes() - sizeof(uint64_t);
    uint64_t checksum = 0;
    std::memcpy(&checksum, record + body, sizeof(checksum));
    if (checksum != XXH3_64bits(record, body)) return false;
    Hash hash;
    std::memcpy(&hash, record, sizeof(hash));
    std::vector<double> scores(outputs_);
    std::memcpy(scores.data(), record + sizeof(hash), outputs_ * sizeof(double));
    keep(hash, scores.data());
    return true;
  }

  void keep(const Hash& hash, const double* scores) {
    if (places_.emplace(hash, places_.size()).second) scores_.insert(scores_.end(), scores, scores + outputs_);
  }

  // Asks for the rows that are new, each once.
  Status add_scores(std::span<const double> rows, std::vector<double>& out) {
    const size_t count = rows.size() / width_;
    std::vector<Hash> hashes(count), fresh;
    std::unordered_map<Hash, bool, TakeLow> seen;
    std::vector<double> unknown;
    for (size_t r = 0; r < count; ++r) {
      const auto row = rows.subspan(r * width_, width_);
      hashes[r] = hash_of(row.data(), row.size_bytes());
      if (places_.contains(hashes[r]) || !seen.emplace(hashes[r], true).second) continue;
      fresh.push_back(hashes[r]);
      unknown.insert(unknown.end(), row.begin(), row.end());
    }
    if (!fresh.empty()) {
      auto scores = ask_(unknown);
      if (!scores) return base::pass(scores);
      if (scores->size() != fresh.size() * outputs_) return base::fail("the model gave {} scores for {} rows of {} outputs", scores->size(), fresh.size(), outputs_);
      for (size_t i = 0; i < fresh.size(); ++i) keep(fresh[i], scores->data() + i * outputs_);
      if (Status ok = write(fresh, *scores); !ok) return ok;
    }
    for (const Hash& hash : hashes) {
      const double* scores = scores_.data() + places_.at(hash) * outputs_;
      out.insert(out.end(), scores, scores + outputs_);
    }
    return {};
  }

  Status write(std::span<const Hash> hashes, std::span<const double> scores) {
    if (failed_) return {};
    const size_t size = record_bytes(), body = size - sizeof(uint64_t);
    std::string bytes(hashes.size() * size, '\0');
    for (size_t i = 0; i < hashes.size(); ++i) {
      char* record = bytes.data() + i * size;
      std::memcpy(record, &hashes[i], sizeof(Hash));
      std::memcpy(record + sizeof(Hash), scores.data() + i * outputs_, outputs_ * sizeof(double));
      const uint64_t checksum = XXH3_64bits(record, body);
      std::memcpy(record + body, &checksum, sizeof(checksum));
    }
    Status ok = write_whole(fd_, bytes.data(), bytes.size());
    if (ok) {
      end_ += bytes.size();
      return {};
    }
    failed_ = true;
    if (::ftruncate(fd_, static_cast<off_t>(end_)) != 0) return base::fail("cannot write {}: {}; its end is cut off, which the next run sees", path_.string(), ok.error().message);
    return base::fail("cannot write {}: {}; what it holds stays good", path_.string(), ok.error().message);
  }

  TableModel::Score ask_;
  base::fs::path path_;
  size_t width_, outputs_;
  int fd_ = -1;
  size_t end_ = 0;       // of the whole records in the file
  bool failed_ = false;  // a write did: from there on scores are kept in memory alone
  std::mutex one_at_a_time_;
  std::unordered_map<Hash, size_t, TakeLow> places_;  // in scores_
  std::vector<double> scores_;
};

}  // namespace

Result<TableModel> remember_scores(TableModel model, const base::fs::path& file, const std::string& identity) {
  if (model.features.empty() || model.outputs.empty()) return base::fail("scores are remembered of a model that names its features and outputs");
  const auto memory = std::make_shared<ScoreMemory>(std::move(model.score), file, model.features.size(), model.outputs.size());
  if (Status ok = memory->open(identity); !ok) return base::pass(ok);
  model.score = [memory](std::span<const double> rows) { return memory->scores(rows); };
  return model;
}

}  // namespace deepseek::explain
