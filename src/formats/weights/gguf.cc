#include "formats/weights/gguf.h"

#include <limits>

#include "formats/weights/gguf_parser.h"

namespace deepseek::formats {
namespace {

template <typename T>
const T* get(const std::map<std::string, GgufValue>& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : std::get_if<T>(&found->second);
}

}  // namespace

size_t GgufArray::size() const {
  return integers.size() + floats.size() + strings.size() + booleans.size() + nested.size();
}

base::Result<Gguf> Gguf::open(const base::fs::path& path) {
  auto file = base::MappedFile::open(path);
  if (!file) return base::pass(file);
  GgufParser parser(file->bytes());
  if (auto parsed = parser.parse(); !parsed) return base::within(path.string(), std::move(parsed.error()));
  Gguf gguf;
  gguf.file_ = std::move(*file);
  gguf.metadata_ = std::move(parser.metadata);
  gguf.stored_ = std::move(parser.stored);
  gguf.tensors_ = std::move(parser.tensors);
  for (size_t i = 0; i < gguf.tensors_.size(); ++i) gguf.index_.emplace(gguf.tensors_[i].name, i);
  if (const int64_t parts = gguf.integer("split.count", 1); parts > 1) {
    return base::fail("{}: this is one of {} parts of a split model; merge them into one file first (llama-gguf-split --merge)",
                      path.string(), parts);
  }
  return gguf;
}

const TensorInfo* Gguf::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::string Gguf::text(const std::string& key, std::string fallback) const {
  const auto* value = get<std::string>(metadata_, key);
  return value != nullptr ? *value : fallback;
}

int64_t Gguf::integer(const std::string& key, int64_t fallback) const {
  if (const auto* value = get<int64_t>(metadata_, key)) return *value;
  const auto* value = get<uint64_t>(metadata_, key);
  const bool fits = value != nullptr && *value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return fits ? static_cast<int64_t>(*value) : fallback;
}

double Gguf::number(const std::string& key, double fallback) const {
  if (const auto* value = get<double>(metadata_, key)) return *value;
  if (const auto* value = get<int64_t>(metadata_, key)) return static_cast<double>(*value);
  if (const auto* value = get<uint64_t>(metadata_, key)) return static_cast<double>(*value);
  return fallback;
}

bool Gguf::boolean(const std::string& key, bool fallback) const {
  const auto* value = get<bool>(metadata_, key);
  return value != nullptr ? *value : fallback;
}

const GgufArray* Gguf::array(const std::string& key) const {
  const auto* value = get<std::shared_ptr<GgufArray>>(metadata_, key);
  return value != nullptr ? value->get() : nullptr;
}

}  // namespace deepseek::formats
