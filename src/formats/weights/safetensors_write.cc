#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/text.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/safetensors_header.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

using base::fail;
using Metadata = std::map<std::string, std::string>;
using Tensors = std::vector<const TensorToWrite*>;

constexpr size_t kAlignment = 8;

base::Status check(const std::vector<TensorToWrite>& tensors) {
  std::set<std::string> names;
  for (const auto& tensor : tensors) {
    const std::string name = shown_name(tensor.name);
    if (tensor.name == "__metadata__" || !base::is_utf8(tensor.name)) return fail("{} cannot be a tensor's name", name);
    if (!names.insert(tensor.name).second) return fail("tensor {} is given twice", name);
    const auto size = byte_count(tensor.type, tensor.shape);
    if (!size || *size != tensor.bytes.size()) {
      return fail("tensor {}: {} bytes do not match type {} and shape {}", name, tensor.bytes.size(),
                  dtype_name(tensor.type), shape_text(tensor.shape));
    }
  }
  return {};
}

bool is_blocks(DType type) { return block_size(type).elements != 1; }

// Bytes of one element as the file counts them: blocks are written as bytes.
int64_t element_bytes(DType type) { return is_blocks(type) ? 1 : block_size(type).bytes; }

// Wide types first, then by name: every tensor is aligned to its type, and the order of the input does not matter.
Tensors in_file_order(Tensors tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    const int64_t a_size = element_bytes(a->type), b_size = element_bytes(b->type);
    return a_size != b_size ? a_size > b_size : a->name < b->name;
  });
  return tensors;
}

std::string header_text(const Tensors& tensors, Metadata metadata) {
  auto blocks = nlohmann::json::object();
  for (const auto* tensor : tensors) {
    if (is_blocks(tensor->type)) blocks[tensor->name] = dtype_name(tensor->type);
  }
  if (!blocks.empty()) metadata[kBlocksKey] = blocks.dump();
  auto header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  // Appended as text: ordered_json looks every key up among all before it.
  std::string text = header.dump();
  text.pop_back();
  uint64_t offset = 0;
  for (const auto* tensor : tensors) {
    const uint64_t end = offset + tensor->bytes.size();
    nlohmann::ordered_json entry;
    auto shape = tensor->shape;
    if (is_blocks(tensor->type)) shape.back() = shape.back() / block_size(tensor->type).elements * block_size(tensor->type).bytes;
    entry["dtype"] = dtype_name(is_blocks(tensor->type) ? DType::kU8 : tensor->type);
    entry["shape"] = shape;
    entry["data_offsets"] = {offset, end};
    if (text.size() > 1) text += ',';
    text += nlohmann::json(tensor->name).dump() + ':' + entry.dump();
    offset = end;
  }
  text += '}';
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

base::Status write_to(base::AtomicFile& file, const Tensors& tensors, const Metadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (!base::is_utf8(key) || !base::is_utf8(value)) return fail("metadata {} is no valid UTF-8", shown_name(key));
  }
  const std::string header = header_text(tensors, metadata);
  const uint64_t length = header.size();
  if (auto written = file.write(&length, sizeof(length)); !written) return written;
  if (auto written = file.write(header); !written) return written;
  for (const auto* tensor : tensors) {
    if (auto written = file.write(tensor->bytes.data(), tensor->bytes.size()); !written) return written;
  }
  return {};
}

// Greedy in the order given: a shard is full when the next tensor would not fit; one tensor may be larger than a shard.
std::vector<Tensors> split(const std::vector<TensorToWrite>& tensors, uint64_t max_bytes) {
  std::vector<Tensors> shards(1);
  uint64_t used = 0;
  for (const auto& tensor : tensors) {
    if (!shards.back().empty() && tensor.bytes.size() > max_bytes - std::min(used, max_bytes)) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(&tensor);
    used += tensor.bytes.size();
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::string index_text(const std::vector<Tensors>& shards) {
  uint64_t total = 0;
  auto map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const auto* tensor : shards[i]) {
      map[tensor->name] = shard_name(i, shards.size());
      total += tensor->bytes.size();
    }
  }
  return nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}}.dump(2) + "\n";
}

// An older model.safetensors would be read instead of the new index, and older shards would only take room.
void remove_stale(const base::fs::path& directory, const std::set<std::string>& current) {
  static const std::regex kWeights(R"(model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json)");
  std::error_code ignored;
  std::vector<base::fs::path> stale;
  for (const auto& entry : base::fs::directory_iterator(directory, ignored)) {
    const auto name = entry.path().filename().string();
    if (std::regex_match(name, kWeights) && !current.contains(name)) stale.push_back(entry.path());
  }
  for (const auto& path : stale) base::fs::remove(path, ignored);
}

}  // namespace

base::Status write_safetensors(const base::fs::path& path, const std::vector<TensorToWrite>& tensors,
                               const Metadata& metadata) {
  if (auto checked = check(tensors); !checked) return base::within(path.string(), std::move(checked.error()));
  Tensors all;
  for (const auto& tensor : tensors) all.push_back(&tensor);
  auto file = base::AtomicFile::create(path);
  if (!file) return base::pass(file);
  if (auto written = write_to(*file, in_file_order(std::move(all)), metadata); !written) return written;
  return file->commit();
}

base::Status write_safetensors_sharded(const base::fs::path& directory, const std::vector<TensorToWrite>& tensors,
                                       uint64_t max_shard_bytes) {
  if (auto checked = check(tensors); !checked) return base::within(directory.string(), std::move(checked.error()));
  const auto shards = split(tensors, max_shard_bytes);
  std::set<std::string> names;
  std::vector<base::AtomicFile> files;
  files.reserve(shards.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto name = shard_name(i, shards.size());
    auto file = base::AtomicFile::create(directory / name);
    if (!file) return base::pass(file);
    if (auto written = write_to(*file, in_file_order(shards[i]), {{"format", "pt"}}); !written) return written;
    files.push_back(std::move(*file));
    names.insert(name);
  }
  // Renamed only when all are written, so that a full disk leaves the old model whole.
  for (auto& file : files) {
    if (auto committed = file.commit(); !committed) return committed;
  }
  if (shards.size() > 1) {
    names.insert("model.safetensors.index.json");
    const auto index = directory / "model.safetensors.index.json";
    if (auto written = base::write_file_atomically(index, index_text(shards)); !written) return written;
  }
  remove_stale(directory, names);
  return {};
}

}  // namespace deepseek::formats
