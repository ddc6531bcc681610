#include "formats/weights/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "base/json.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

using base::fail;

constexpr uint64_t kLongestHeader = 100'000'000;  // the reference implementation's limit

struct Entry {
  TensorInfo info;
  uint64_t begin = 0, end = 0;
};

std::optional<DType> block_type_from_name(const std::string& name) {
  for (int i = static_cast<int>(DType::kQ4_0); i <= static_cast<int>(DType::kQ6_K); ++i) {
    if (name == dtype_name(static_cast<DType>(i))) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool type_from_name(const std::string& name, DType& type) {
  constexpr DType kPlain[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                              DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};
  for (const DType candidate : kPlain) {
    if (name != dtype_name(candidate)) continue;
    type = candidate;
    return true;
  }
  return false;
}

// Reads {"name": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"key": "text"}} without building
// a tree, so that repeated names are seen and nothing else is stored.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(int64_t) override { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { return unexpected("a fraction or a number beyond 64 bits"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::kNumbers) return unexpected("a number");
    numbers_.push_back(value);
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      metadata[field_] = text;
      return true;
    }
    if (place_ != Place::kTensor || field_ != "dtype") return unexpected("text");
    if (type_from_name(text, entries.back().info.type)) return true;
    error = fmt::format("tensor {} has type {}, which is not supported; use a copy with BF16, F16 or F32 weights", shown_name(name_),
                        shown_name(text));
    return false;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      if (place_ == Place::kTensor) entries.emplace_back().info.name = name_;
    } else {
      return unexpected("an object");
    }
    fields_.clear();
    return true;
  }

  bool key(std::string& text) override {
    if (place_ == Place::kTop) {
      name_ = text;
      return names_.insert(text).second || stop("it appears twice");
    }
    field_ = text;
    if (place_ == Place::kTensor && text != "dtype" && text != "shape" && text != "data_offsets") {
      return stop("field {} is unknown", shown_name(text));
    }
    return fields_.insert(text).second || stop("field {} appears twice", shown_name(text));
  }

  bool end_object() override {
    if (place_ == Place::kTop) return true;
    const bool complete = place_ == Place::kMetadata || fields_.size() == 3;
    place_ = Place::kTop;
    return complete || stop("it lacks dtype, shape or data_offsets");
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") return unexpected("a list");
    place_ = Place::kNumbers;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return field_ == "shape" ? set_shape() : set_offsets();
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error = fmt::format("the header is no valid JSON at its byte {}; the file is damaged", position);
    return false;
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kNumbers };

  template <typename... Args>
  bool stop(fmt::format_string<Args...> format, Args&&... args) {
    error = fmt::format("tensor {}: {}; the file is damaged", shown_name(name_), fmt::format(format, std::forward<Args>(args)...));
    return false;
  }

  bool unexpected(const char* what) {
    return stop("{} stands where the header may not have it", what);
  }

  bool set_shape() {
    for (const uint64_t size : numbers_) {
      if (size > uint64_t{1} << 62) return stop("a dimension of {} is absurd", size);
      entries.back().info.shape.push_back(static_cast<int64_t>(size));
    }
    return true;
  }

  bool set_offsets() {
    if (numbers_.size() != 2) return stop("data_offsets has {} numbers instead of 2", numbers_.size());
    entries.back().begin = numbers_[0];
    entries.back().end = numbers_[1];
    return true;
  }

  Place place_ = Place::kStart;
  std::string name_, field_;
  std::set<std::string> names_, fields_;
  std::vector<uint64_t> numbers_;
};

// Every tensor's bytes lie in the data, have the size that its type and shape ask for, and follow one another.
base::Status place_tensors(std::vector<Entry>& entries, std::span<const std::byte> data) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.info.name) < std::tie(b.begin, b.end, b.info.name);
  });
  uint64_t end = 0;
  for (auto& entry : entries) {
    const std::string name = shown_name(entry.info.name);
    if (entry.begin > entry.end || entry.end > data.size()) {
      return fail("tensor {} at bytes {} to {} is not inside the {} bytes of data; the file is incomplete or damaged", name,
                  entry.begin, entry.end, data.size());
    }
    const auto size = byte_count(entry.info.type, entry.info.shape);
    if (!size || *size != entry.end - entry.begin) {
      return fail("tensor {} of type {} and shape {} cannot have {} bytes; the file is damaged", name,
                  dtype_name(entry.info.type), shape_text(entry.info.shape), entry.end - entry.begin);
    }
    if (entry.begin != end) {
      return fail("tensor {} at byte {} {}; the file is damaged", name, entry.begin,
                  entry.begin < end ? "overlaps the one before it" : fmt::format("leaves a hole after byte {}", end));
    }
    entry.info.bytes = data.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(*size));
    end = entry.end;
  }
  if (end != data.size()) return fail("{} bytes after the last tensor belong to none; the file is damaged", data.size() - end);
  return {};
}

// Bytes that the metadata calls blocks of a type get that type, and the shape of what they decode to.
base::Status name_blocks(SafeTensorsHeader& header) {
  const auto listed = header.metadata.find(kBlocksKey);
  if (listed == header.metadata.end()) return {};
  auto json = base::parse_large_json(listed->second);
  if (!json || !json->is_object()) return fail("its metadata {} is no JSON object; the file is damaged", kBlocksKey);
  for (auto& tensor : header.tensors) {
    const auto named = json->find(tensor.name);
    if (named == json->end()) continue;
    const auto type = block_type_from_name(named->is_string() ? named->get<std::string>() : std::string());
    if (!type) return fail("tensor {} has blocks of the unknown type {}; the file is damaged or newer than this program", shown_name(tensor.name), named->dump().substr(0, 40));
    const auto block = block_size(*type);
    if (tensor.type != DType::kU8 || tensor.shape.empty() || tensor.shape.back() % block.bytes != 0) {
      return fail("tensor {} of type {} and shape {} cannot hold blocks of {}; the file is damaged", shown_name(tensor.name), dtype_name(tensor.type),
                  shape_text(tensor.shape), dtype_name(*type));
    }
    tensor.shape.back() = tensor.shape.back() / block.bytes * block.elements;
    tensor.type = *type;
  }
  return {};
}

}  // namespace

base::Result<SafeTensorsHeader> parse_safetensors(std::span<const std::byte> file) {
  if (file.empty()) return fail("the file is empty; fetch it again");
  uint64_t length = 0;
  if (file.size() < sizeof(length)) return fail("{} bytes are too few for a safetensors file", file.size());
  if (const std::string other = mistaken_for(file); !other.empty()) return fail("not a safetensors file{}", other);
  std::memcpy(&length, file.data(), sizeof(length));
  if (length > kLongestHeader) return fail("not a safetensors file: its header would have {} bytes", length);
  if (length > file.size() - sizeof(length)) {
    return fail("a header of {} bytes does not fit in a file of {}; the file is incomplete or damaged", length, file.size());
  }
  const auto* text = reinterpret_cast<const char*>(file.data() + sizeof(length));
  if (length == 0 || text[0] != '{') return fail("not a safetensors file: its header does not begin with {{");
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(text, text + length, &reader)) return fail("{}", reader.error);
  if (auto placed = place_tensors(reader.entries, file.subspan(sizeof(length) + static_cast<size_t>(length))); !placed) {
    return base::pass(placed);
  }
  SafeTensorsHeader header;
  header.metadata = std::move(reader.metadata);
  header.tensors.reserve(reader.entries.size());
  for (auto& entry : reader.entries) header.tensors.push_back(std::move(entry.info));
  if (auto named = name_blocks(header); !named) return base::pass(named);
  return header;
}

}  // namespace deepseek::formats
