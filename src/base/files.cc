#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace deepseek::base {
namespace {

std::string reason() { return std::strerror(errno); }

}  // namespace

Result<std::string> read_file(const fs::path& path, size_t max_bytes) {
  auto mapped = MappedFile::open(path);
  if (!mapped) return pass(mapped);
  const auto bytes = mapped->bytes();
  if (bytes.size() > max_bytes) {
    return fail("{}: {} bytes is more than the {} that this kind of file may have", path.string(), bytes.size(), max_bytes);
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Status write_file_atomically(const fs::path& path, std::string_view content) {
  auto file = AtomicFile::create(path);
  if (!file) return pass(file);
  if (auto written = file->write(content); !written) return written;
  return file->commit();
}

AtomicFile::AtomicFile(fs::path path, fs::path temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const fs::path& path) {
  std::error_code error;
  // A rename over /dev/null would replace the device for every program.
  if (fs::exists(path, error) && !fs::is_regular_file(path, error)) return fail("{}: cannot write here: it is no regular file", path.string());
  std::string name = path.string() + ".XXXXXX.part";
  const int fd = ::mkostemps(name.data(), 5, O_CLOEXEC);
  if (fd < 0) return fail("{}: cannot write here: {}", path.string(), reason());
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(fd, 0666 & ~mask);
  return AtomicFile(path, name, fd);
}

Status AtomicFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd_, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail("{}: cannot write: {}; the old file, if any, is unchanged", path_.string(), reason());
    next += written;
    size -= static_cast<size_t>(written);
  }
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return fail("{}: cannot flush: {}; the old file, if any, is unchanged", path_.string(), reason());
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail("{}: cannot rename into place: {}", path_.string(), reason());
  ::close(std::exchange(fd_, -1));
  flush_directory(path_.parent_path());
  return {};
}

Result<MappedFile> MappedFile::open(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail("{}: cannot open: {}", path.string(), reason());
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return fail("{}: not a regular file", path.string());
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(status.st_size);
  if (file.size_ > 0) {
    void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      ::close(fd);
      return fail("{}: cannot map {} bytes: {}", path.string(), file.size_, reason());
    }
    file.data_ = data;
  }
  ::close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void MappedFile::release_pages(size_t offset, size_t size) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = std::min(offset + size, size_) / page * page;
  if (begin < end) ::madvise(static_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void flush_directory(const fs::path& directory) {
  const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

fs::path cache_directory() {
  if (const char* own = std::getenv("DEEPSEEK_CACHE"); own != nullptr && *own != 0) return own;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != 0) return fs::path(xdg) / "deepseek";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache" / "deepseek";
}

}  // namespace deepseek::base
