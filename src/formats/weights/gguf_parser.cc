#include "formats/weights/gguf_parser.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "formats/weights/gguf_types.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "weights are mapped, not swapped: a little-endian host is needed");

using base::fail;
using base::pass;

constexpr int kDeepestArray = 4;
constexpr uint64_t kLongestArray = 1 << 24;  // sixty times the largest vocabulary; bounds what a damaged count can allocate
constexpr size_t kLongestKey = 65535;       // the specification's limit
constexpr size_t kSmallestValue = 8 + 4 + 1;   // length of the key, type, one byte
constexpr size_t kSmallestTensor = 8 + 4 + 4 + 8;  // length of the name, dimensions, type, offset
constexpr uint32_t kMostDimensions = 4;     // ggml's limit

base::Result<DType> tensor_type(uint32_t id, const std::string& name) {
  for (const auto& row : kGgufTensorTypes) {
    if (row.id != id) continue;
    if (row.type) return *row.type;
    return fail("tensor {} has type {}, which is not supported; use a file with F16, Q8_0 or Q4_K_M weights", shown_name(name),
                row.name);
  }
  return fail("tensor {} has the unknown type {}; the file is damaged or newer than this program", shown_name(name), id);
}

}  // namespace

template <typename T>
base::Result<T> GgufParser::read() {
  if (left() < sizeof(T)) return fail("the file ends inside its header at byte {}; it is incomplete", bytes_.size());
  T value;
  std::memcpy(&value, bytes_.data() + at_, sizeof(T));
  at_ += sizeof(T);
  return value;
}

base::Result<std::string> GgufParser::read_string(size_t longest) {
  const auto length = read<uint64_t>();
  if (!length) return tl::make_unexpected(length.error());
  if (*length > left() || *length > longest) {
    return fail("a string at byte {} claims {} bytes, but {} are left and {} are allowed; the file is damaged", at_ - 8,
                *length, left(), longest);
  }
  std::string text(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(*length));
  at_ += text.size();
  return text;
}

base::Status GgufParser::parse() {
  if (auto header = read_header(); !header) return header;
  if (auto values = read_metadata(); !values) return values;
  if (auto alignment = read_alignment(); !alignment) return alignment;
  std::set<std::string> names;
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    if (auto tensor = read_tensor(names); !tensor) return tensor;
  }
  return place_tensors();
}

base::Status GgufParser::read_header() {
  if (bytes_.empty()) return fail("the file is empty; fetch it again");
  if (const std::string other = mistaken_for(bytes_); !other.empty()) return fail("not a GGUF file{}", other);
  if (bytes_.size() < 24) return fail("{} bytes are too few for a GGUF file; it is incomplete", bytes_.size());
  const std::string magic(reinterpret_cast<const char*>(bytes_.data()), 4);
  at_ = 4;
  const uint32_t version = *read<uint32_t>();
  tensor_count_ = *read<uint64_t>();
  value_count_ = *read<uint64_t>();
  if (magic == "FUGG" || (magic == "GGUF" && version != 0 && (version & 0xFFFF) == 0)) {
    return fail("this GGUF file is big-endian, which is not supported; use the little-endian file of this model");
  }
  if (magic == "lmgg" || magic == "tjgg" || magic == "fmgg") {
    return fail("this is a GGML file from before GGUF; convert the model again with a current converter");
  }
  if (magic != "GGUF") return fail("not a GGUF file: it begins with {} instead of \"GGUF\"", shown_name(magic));
  if (version != 2 && version != 3) {
    return fail("GGUF version {} is not supported (2 and 3 are); convert the model again with a current converter", version);
  }
  if (value_count_ > left() / kSmallestValue || tensor_count_ > left() / kSmallestTensor) {
    return fail("the header claims {} metadata values and {} tensors, more than {} bytes can hold; the file is damaged",
                value_count_, tensor_count_, bytes_.size());
  }
  return {};
}

base::Status GgufParser::read_metadata() {
  for (uint64_t i = 0; i < value_count_; ++i) {
    auto key = read_string(kLongestKey);
    if (!key) return pass(key);
    const auto type = read<uint32_t>();
    if (!type) return tl::make_unexpected(type.error());
    const size_t begin = at_ - sizeof(*type);
    auto value = read_value(*type, 0);
    if (!value) return base::within(fmt::format("metadata {}", shown_name(*key)), std::move(value.error()));
    if (!metadata.emplace(*key, std::move(*value)).second) {
      return fail("metadata {} appears twice; the file is damaged", shown_name(*key));
    }
    stored.emplace_back(*key, bytes_.subspan(begin, at_ - begin));
  }
  return {};
}

base::Result<GgufValue> GgufParser::read_value(uint32_t type, int depth) {
  const auto widen = [](auto read, auto wide) -> base::Result<GgufValue> {
    if (!read) return tl::make_unexpected(read.error());
    return GgufValue{static_cast<decltype(wide)>(*read)};
  };
  switch (type) {
    case kU8: return widen(read<uint8_t>(), uint64_t{});
    case kI8: return widen(read<int8_t>(), int64_t{});
    case kU16: return widen(read<uint16_t>(), uint64_t{});
    case kI16: return widen(read<int16_t>(), int64_t{});
    case kU32: return widen(read<uint32_t>(), uint64_t{});
    case kI32: return widen(read<int32_t>(), int64_t{});
    case kF32: return widen(read<float>(), double{});
    case kU64: return widen(read<uint64_t>(), uint64_t{});
    case kI64: return widen(read<int64_t>(), int64_t{});
    case kF64: return widen(read<double>(), double{});
    case kBool: return widen(read<uint8_t>(), bool{});
    case kArray: return read_array(depth);
    case kString: {
      auto text = read_string(bytes_.size());
      if (!text) return pass(text);
      return GgufValue{std::move(*text)};
    }
    default: return fail("unknown value type {}; the file is damaged or newer than this program", type);
  }
}

base::Result<GgufValue> GgufParser::read_array(int depth) {
  if (depth >= kDeepestArray) return fail("arrays are nested more than {} deep; the file is damaged", kDeepestArray);
  const auto type = read<uint32_t>();
  if (!type) return tl::make_unexpected(type.error());
  const auto count = read<uint64_t>();
  if (!count) return tl::make_unexpected(count.error());
  auto array = std::make_shared<GgufArray>();
  if (auto filled = fill_array(*type, *count, depth, *array); !filled) return pass(filled);
  return GgufValue{std::move(array)};
}

base::Status GgufParser::fill_array(uint32_t type, uint64_t count, int depth, GgufArray& array) {
  if (count > kLongestArray) return fail("an array claims {} elements, more than {}; the file is damaged", count, kLongestArray);
  switch (type) {
    case kU8: return read_elements<uint8_t>(count, array.integers);
    case kI8: return read_elements<int8_t>(count, array.integers);
    case kU16: return read_elements<uint16_t>(count, array.integers);
    case kI16: return read_elements<int16_t>(count, array.integers);
    case kU32: return read_elements<uint32_t>(count, array.integers);
    case kI32: return read_elements<int32_t>(count, array.integers);
    case kU64: return read_elements<uint64_t>(count, array.integers);
    case kI64: return read_elements<int64_t>(count, array.integers);
    case kF32: return read_elements<float>(count, array.floats);
    case kF64: return read_elements<double>(count, array.floats);
    case kBool: return read_elements<uint8_t>(count, array.booleans);
    case kString: return read_strings(count, array.strings);
    case kArray: return read_nested(count, depth, array.nested);
    default: return fail("unknown element type {}; the file is damaged or newer than this program", type);
  }
}

template <typename T, typename Element>
base::Status GgufParser::read_elements(uint64_t count, std::vector<Element>& elements) {
  if (count > left() / sizeof(T)) {
    return fail("an array claims {} elements, but only {} bytes are left; the file is damaged", count, left());
  }
  elements.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    const T value = *read<T>();
    if constexpr (std::is_same_v<T, uint64_t>) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return fail("an array holds {}, which is beyond 63 bits; the file is damaged", value);
      }
    }
    elements.push_back(static_cast<Element>(value));
  }
  return {};
}

base::Status GgufParser::read_strings(uint64_t count, std::vector<std::string>& strings) {
  if (count > left() / sizeof(uint64_t)) {
    return fail("an array claims {} strings, but only {} bytes are left; the file is damaged", count, left());
  }
  strings.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    auto text = read_string(bytes_.size());
    if (!text) return pass(text);
    strings.push_back(std::move(*text));
  }
  return {};
}

base::Status GgufParser::read_nested(uint64_t count, int depth, std::vector<GgufValue>& nested) {
  for (uint64_t i = 0; i < count; ++i) {
    auto inner = read_array(depth + 1);
    if (!inner) return pass(inner);
    nested.push_back(std::move(*inner));
  }
  return {};
}

base::Status GgufParser::read_alignment() {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return {};
  const auto* value = std::get_if<uint64_t>(&found->second);
  constexpr uint64_t kLargest = uint64_t{1} << 30;
  if (value == nullptr || *value > kLargest || !std::has_single_bit(*value)) {
    return fail("general.alignment is no power of two up to {}; the file is damaged", kLargest);
  }
  alignment_ = *value;
  return {};
}

base::Status GgufParser::read_tensor(std::set<std::string>& names) {
  auto name = read_string(kLongestKey);
  if (!name) return pass(name);
  if (!names.insert(*name).second) return fail("tensor {} appears twice; the file is damaged", shown_name(*name));
  const auto dimensions = read<uint32_t>();
  if (!dimensions) return tl::make_unexpected(dimensions.error());
  if (*dimensions > kMostDimensions) {
    return fail("tensor {} has {} dimensions, more than {}; the file is damaged", shown_name(*name), *dimensions, kMostDimensions);
  }
  TensorInfo info;
  for (uint32_t i = 0; i < *dimensions; ++i) {
    const auto size = read<uint64_t>();
    if (!size) return tl::make_unexpected(size.error());
    if (*size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fail("tensor {} has a dimension of {}; the file is damaged", shown_name(*name), *size);
    }
    info.shape.insert(info.shape.begin(), static_cast<int64_t>(*size));
  }
  const auto type_id = read<uint32_t>();
  if (!type_id) return tl::make_unexpected(type_id.error());
  const auto offset = read<uint64_t>();
  if (!offset) return tl::make_unexpected(offset.error());
  auto type = tensor_type(*type_id, *name);
  if (!type) return pass(type);
  const auto size = byte_count(*type, info.shape);
  if (!size) {
    return fail("tensor {} of type {} cannot have shape {}; the file is damaged", shown_name(*name), dtype_name(*type),
                shape_text(info.shape));
  }
  info.name = std::move(*name);
  info.type = *type;
  tensors.push_back(std::move(info));
  pending_.push_back({*offset, *size});
  return {};
}

base::Status GgufParser::place_tensors() {
  const uint64_t start = (at_ + alignment_ - 1) / alignment_ * alignment_;
  const uint64_t room = bytes_.size() > start ? bytes_.size() - start : 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto [offset, size] = pending_[i];
    if (offset % alignment_ != 0) {
      return fail("tensor {} at offset {} is not aligned to {}; the file is damaged", shown_name(tensors[i].name), offset,
                  alignment_);
    }
    if (size > room || offset > room - size) {
      return fail("tensor {} needs {} bytes at offset {}, but the file has {} bytes of data; it is incomplete or damaged",
                  shown_name(tensors[i].name), size, offset, room);
    }
    if (size > 0) tensors[i].bytes = bytes_.subspan(static_cast<size_t>(start + offset), static_cast<size_t>(size));
  }
  return check_overlaps();
}

base::Status GgufParser::check_overlaps() const {
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pending_[a].offset < pending_[b].offset; });
  uint64_t end = 0;
  size_t before = 0;
  for (const size_t i : order) {
    if (pending_[i].size == 0) continue;
    if (pending_[i].offset < end) {
      return fail("tensors {} and {} overlap; the file is damaged", shown_name(tensors[before].name), shown_name(tensors[i].name));
    }
    end = pending_[i].offset + pending_[i].size;
    before = i;
  }
  return {};
}

}  // namespace deepseek::formats
