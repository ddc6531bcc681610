#include "formats/weights/tensor_file.h"

#include <fmt/ranges.h>

#include <array>

#include "base/text.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

struct TypeRow {
  DType type;
  const char* name;  // safetensors' name for plain types, ggml's for block types
  BlockSize block;
};

constexpr std::array<TypeRow, 20> kTypes{{
    {DType::kF64, "F64", {1, 8}},       {DType::kF32, "F32", {1, 4}},       {DType::kF16, "F16", {1, 2}},
    {DType::kBF16, "BF16", {1, 2}},     {DType::kI64, "I64", {1, 8}},       {DType::kI32, "I32", {1, 4}},
    {DType::kI16, "I16", {1, 2}},       {DType::kI8, "I8", {1, 1}},         {DType::kU8, "U8", {1, 1}},
    {DType::kBool, "BOOL", {1, 1}},     {DType::kQ4_0, "Q4_0", {32, 18}},   {DType::kQ4_1, "Q4_1", {32, 20}},
    {DType::kQ5_0, "Q5_0", {32, 22}},   {DType::kQ5_1, "Q5_1", {32, 24}},   {DType::kQ8_0, "Q8_0", {32, 34}},
    {DType::kQ2_K, "Q2_K", {256, 84}},  {DType::kQ3_K, "Q3_K", {256, 110}}, {DType::kQ4_K, "Q4_K", {256, 144}},
    {DType::kQ5_K, "Q5_K", {256, 176}}, {DType::kQ6_K, "Q6_K", {256, 210}},
}};

constexpr bool rows_stand_in_order() {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<size_t>(kTypes[i].type) != i) return false;
  }
  return true;
}
static_assert(rows_stand_in_order());

}  // namespace

const char* dtype_name(DType type) { return kTypes[static_cast<size_t>(type)].name; }

BlockSize block_size(DType type) { return kTypes[static_cast<size_t>(type)].block; }

int64_t TensorInfo::elements() const { return element_count(shape).value_or(0); }

std::optional<int64_t> element_count(std::span<const int64_t> shape) {
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t count = 1;
  bool empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      empty = true;
    } else if (count > kMost / dimension) {
      return std::nullopt;
    } else {
      count *= dimension;
    }
  }
  return empty ? 0 : count;
}

std::optional<uint64_t> byte_count(DType type, std::span<const int64_t> shape) {
  const auto count = element_count(shape);
  if (!count) return std::nullopt;
  const auto block = block_size(type);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block.elements != 0) return std::nullopt;
  const auto blocks = static_cast<uint64_t>(*count / block.elements);
  if (blocks > (uint64_t{1} << 62) / static_cast<uint64_t>(block.bytes)) return std::nullopt;
  return blocks * static_cast<uint64_t>(block.bytes);
}

std::string shown_name(std::string_view name) {
  constexpr size_t kLongest = 120;
  std::string shown = base::to_valid_utf8(name.substr(0, kLongest));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return fmt::format("\"{}{}\"", shown, name.size() > kLongest ? "..." : "");
}

std::string mistaken_for(std::span<const std::byte> file) {
  const std::string_view begin(reinterpret_cast<const char*>(file.data()), std::min<size_t>(file.size(), 64));
  if (begin.starts_with("version https://git-lfs")) return ": it is the pointer that Git LFS left in its place; run 'git lfs pull' there, or fetch the file itself";
  if (begin.starts_with("<!") || begin.starts_with("<html") || begin.starts_with("<HTML")) return ": it is a web page, perhaps an error that was saved; fetch it again";
  if (begin.starts_with("PK\x03\x04")) return ": it is a zip archive, perhaps a PyTorch checkpoint; fetch or make the model's safetensors";
  return "";
}

std::string shape_text(std::span<const int64_t> shape) {
  constexpr size_t kMostShown = 8;
  if (shape.size() <= kMostShown) return fmt::format("[{}]", fmt::join(shape, ", "));
  return fmt::format("[{}, ... {} dimensions]", fmt::join(shape.first(kMostShown), ", "), shape.size());
}

base::Status check_shape(const TensorInfo& info, const std::vector<int64_t>& shape) {
  if (info.shape == shape) return {};
  return base::fail("tensor '{}' has shape [{}], the configuration asks for [{}]", info.name, fmt::join(info.shape, ", "), fmt::join(shape, ", "));
}

}  // namespace deepseek::formats
