#include "formats/weights/safetensors.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "formats/weights/safetensors_header.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::fs::path;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr size_t kLongestIndex = 100'000'000;

using WeightMap = std::map<std::string, std::string>;

// A shard lies beside its index: anything that could lead elsewhere is refused.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

base::Result<WeightMap> read_index(const path& file) {
  auto text = base::read_file(file, kLongestIndex);
  if (!text) return base::pass(text);
  const auto index = base::parse_large_json(*text);
  if (!index) return base::within(file.string(), index.error());
  const auto found = index->find("weight_map");
  if (found == index->end() || !found->is_object()) {
    return fail("{}: has no \"weight_map\" from tensors to files; fetch the file again", file.string());
  }
  WeightMap map;
  for (const auto& [tensor, shard] : found->items()) {
    if (!shard.is_string()) return fail("{}: tensor {} names no file", file.string(), shown_name(tensor));
    auto name = shard.get<std::string>();
    if (!is_plain_file_name(name)) {
      return fail("{}: tensor {} names {}, but a shard must be a file in the same directory", file.string(), shown_name(tensor),
                  shown_name(name));
    }
    map.emplace(tensor, std::move(name));
  }
  if (map.empty()) return fail("{}: \"weight_map\" is empty; fetch the file again", file.string());
  return map;
}

base::Result<SafeTensorsHeader> read_shard(const path& file, std::vector<base::MappedFile>& files) {
  auto mapped = base::MappedFile::open(file);
  if (!mapped) return base::pass(mapped);
  auto header = parse_safetensors(mapped->bytes());
  if (!header) return base::within(file.string(), std::move(header.error()));
  for (auto& tensor : header->tensors) tensor.file = files.size();
  files.push_back(std::move(*mapped));
  return header;
}

std::string what_else_is_there(const path& directory) {
  std::error_code ignored;
  for (const auto& entry : base::fs::directory_iterator(directory, ignored)) {
    const auto name = entry.path().filename().string();
    const auto extension = entry.path().extension();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
      return fmt::format("; {} may run code when it is read, so it is not: save the model as safetensors", shown_name(name));
    }
    if (extension == ".gguf" || extension == ".safetensors") return fmt::format("; did you mean the file {}?", shown_name(name));
  }
  return "; name a directory that holds a model, or fetch one with `deepseek-cli pull`";
}

base::Result<path> choose_file(const path& given) {
  std::error_code ignored;
  if (!base::fs::is_directory(given, ignored)) return given;
  for (const char* name : {kSingle, kIndex}) {
    if (base::fs::exists(given / name, ignored)) return given / name;
  }
  return fail("{}: neither {} nor {} is in this directory{}", given.string(), kSingle, kIndex, what_else_is_there(given));
}

// Checks what the index promises of one shard and leaves out what it places in another one.
base::Status keep_listed(const path& index_file, const std::string& shard, const WeightMap& map,
                         std::vector<TensorInfo>& tensors) {
  std::set<std::string> present;
  for (const auto& tensor : tensors) present.insert(tensor.name);
  for (const auto& [tensor, file] : map) {
    if (file == shard && !present.contains(tensor)) {
      return fail("{}: tensor {} should be in {}, but is not; the two files do not belong together, fetch both again",
                  index_file.string(), shown_name(tensor), shard);
    }
  }
  std::erase_if(tensors, [&](const TensorInfo& tensor) {
    const auto listed = map.find(tensor.name);
    return listed != map.end() && listed->second != shard;
  });
  return {};
}

}  // namespace

base::Result<SafeTensors> SafeTensors::open(const base::fs::path& file_or_directory) {
  const auto file = choose_file(file_or_directory);
  if (!file) return tl::make_unexpected(file.error());
  WeightMap map;
  std::set<std::string> shards{file->filename().string()};
  const bool sharded = file->extension() == ".json";
  if (sharded) {
    auto index = read_index(*file);
    if (!index) return base::pass(index);
    map = std::move(*index);
    shards.clear();
    for (const auto& [tensor, shard] : map) shards.insert(shard);
  }
  SafeTensors result;
  for (const auto& shard : shards) {
    std::error_code ignored;
    const path shard_path = sharded ? file->parent_path() / shard : *file;
    if (sharded && !base::fs::exists(shard_path, ignored)) {
      return fail("{}: shard {}, which {} names, is missing; fetch it and try again", file->parent_path().string(), shard,
                  file->filename().string());
    }
    auto header = read_shard(shard_path, result.files_);
    if (!header) return base::pass(header);
    if (sharded) {
      if (auto kept = keep_listed(*file, shard, map, header->tensors); !kept) return base::pass(kept);
    }
    for (auto& tensor : header->tensors) {
      if (!result.index_.emplace(tensor.name, result.tensors_.size()).second) {
        return fail("{}: tensor {} is in another shard too; fetch the model again", shard_path.string(), shown_name(tensor.name));
      }
      result.tensors_.push_back(std::move(tensor));
    }
    result.metadata_.merge(header->metadata);
  }
  return result;
}

const TensorInfo* SafeTensors::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace deepseek::formats
