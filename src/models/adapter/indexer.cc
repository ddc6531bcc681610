#include "models/adapter/indexer.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "base/json.h"
#include "formats/weights/safetensors.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::refuse;
using base::Result;
using Json = nlohmann::ordered_json;
namespace fs = base::fs;

constexpr int64_t kFormatVersion = 1;

std::vector<int64_t> shape_of(const std::string& name, const IndexerConfig& c, int64_t hidden) {
  if (name == "wq.weight") return {c.heads * c.dim, hidden};
  if (name == "wk.weight") return {c.dim, hidden};
  if (name == "weights_proj.weight") return {c.heads, hidden};
  return {c.dim};
}

std::string name_in_file(size_t layer, const char* name) { return fmt::format("model.layers.{}.self_attn.indexer.{}", layer, name); }

Result<IndexerConfig> read_config(const Decoder& decoder, const std::vector<size_t>& layers, const fs::path& path) {
  auto json = base::read_json_file(path);
  if (!json) return base::pass(json);
  if (!json->is_object()) return fail("{} holds no object", path.string());
  IndexerConfig c{.base_model = base::value_or<std::string>(*json, "base_model_name_or_path", ""), .heads = base::value_or<int64_t>(*json, "index_n_heads", 0),
                  .dim = base::value_or<int64_t>(*json, "index_head_dim", 0), .top_k = base::value_or<int64_t>(*json, "index_topk", 0),
                  .stage = base::value_or<std::string>(*json, "stage", "")};
  const auto version = base::value_or<int64_t>(*json, "version", 0);
  if (version != kFormatVersion) return fail("{} is of version {}; this program reads version {}", path.string(), version, kFormatVersion);
  if (auto sound = check_indexer_config(c); !sound) return base::within(path.string(), sound.error());
  const auto hidden = base::value_or<int64_t>(*json, "hidden_size", 0);
  if (hidden != decoder.config().hidden_size || base::value_or<int64_t>(*json, "num_hidden_layers", 0) != static_cast<int64_t>(decoder.layers().size()) ||
      json->value("layers", Json()) != Json(layers)) {
    return fail("{} belongs to another model{}", path.string(), c.base_model.empty() ? "" : ": it names " + c.base_model);
  }
  return c;
}

}  // namespace

base::Status check_indexer_config(const IndexerConfig& c) {
  if (c.heads < 1 || c.heads > 128) return refuse("--dsa_heads is {}; an indexer has 1 to 128 heads", c.heads);
  if (c.dim < 4 || c.dim > 1024 || c.dim % 4 != 0) return refuse("--dsa_dim is {}; it is a multiple of 4 up to 1,024", c.dim);
  if (c.top_k < 1 || c.top_k > (1 << 20)) return refuse("--dsa_top_k is {}; use 1 to 1,048,576 keys", c.top_k);
  return {};
}

Result<std::vector<size_t>> indexed_layers(const DecoderConfig& config) {
  if (config.attention_softcap > 0) return refuse("an indexer does not go with this model: its attention caps the scores (softcap {})", config.attention_softcap);
  std::vector<size_t> layers;
  for (size_t i = 0; i < config.sliding.size(); ++i) {
    if (!config.sliding[i]) layers.push_back(i);
  }
  if (layers.empty()) return refuse("an indexer does not go with this model: every layer has a sliding window");
  return layers;
}

base::Status attach_indexers(Decoder& decoder, const IndexerConfig& config, uint64_t seed) {
  if (auto sound = check_indexer_config(config); !sound) return sound;
  auto layers = indexed_layers(decoder.config());
  if (!layers) return base::pass(layers);
  const int64_t hidden = decoder.config().hidden_size;
  const auto device = decoder.embedding().device();
  for (const size_t i : *layers) {
    nn::LightningIndexer indexer{.heads = config.heads, .dim = config.dim, .rope_dim = config.dim / 2};
    for (auto& [name, tensor] : indexer.named_parameters()) {
      const auto shape = shape_of(name, config, hidden);
      if (shape.size() == 1) *tensor = std::string(name) == "k_norm.weight" ? at::ones(shape, at::kFloat) : at::zeros(shape, at::kFloat);
      else *tensor = seeded_uniform(shape, 1 / std::sqrt(static_cast<double>(hidden)), name_in_file(i, name), seed);
      *tensor = tensor->to(device);
    }
    decoder.layers()[i].indexer = std::move(indexer);
  }
  decoder.set_reads({true, {.value = static_cast<double>(config.top_k)}});
  return {};
}

Result<IndexerConfig> read_indexers(Decoder& decoder, const fs::path& directory) {
  auto layers = indexed_layers(decoder.config());
  if (!layers) return base::pass(layers);
  auto config = read_config(decoder, *layers, directory / kIndexerConfigFile);
  if (!config) return base::pass(config);
  const fs::path path = directory / kIndexerWeightsFile;
  if (!fs::exists(path)) return fail("{} holds no indexer: it has no {}", directory.string(), kIndexerWeightsFile);
  auto file = formats::SafeTensors::open(path);
  if (!file) return base::pass(file);
  size_t used = 0;
  std::vector<nn::LightningIndexer> read;
  for (const size_t i : *layers) {
    nn::LightningIndexer indexer{.heads = config->heads, .dim = config->dim, .rope_dim = config->dim / 2};
    for (auto& [name, tensor] : indexer.named_parameters()) {
      const auto* info = file->find(name_in_file(i, name));
      if (info == nullptr) return fail("{}: tensor '{}' is missing", path.string(), name_in_file(i, name));
      const auto shape = shape_of(name, *config, decoder.config().hidden_size);
      auto values = read_f32(*info, shape);
      if (!values) return base::within(path.string(), values.error());
      *tensor = tensor_of(*values, shape, decoder.embedding());
      ++used;
    }
    read.push_back(std::move(indexer));
  }
  if (used != file->tensors().size()) return fail("{}: {} tensors where {} belong to this model", path.string(), file->tensors().size(), used);
  for (size_t i = 0; i < read.size(); ++i) decoder.layers()[(*layers)[i]].indexer = std::move(read[i]);
  decoder.set_reads({true, {.value = static_cast<double>(config->top_k)}});
  return config;
}

base::Status write_indexers(const Decoder& decoder, const IndexerConfig& c, const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail("cannot create {}: {}", directory.string(), error.message());
  std::vector<size_t> layers;
  for (size_t i = 0; i < decoder.layers().size(); ++i) {
    if (decoder.layers()[i].indexer) layers.push_back(i);
  }
  const Json json{{"format", "lightning indexer"}, {"version", kFormatVersion}, {"base_model_name_or_path", c.base_model}, {"hidden_size", decoder.config().hidden_size},
                  {"num_hidden_layers", decoder.layers().size()}, {"layers", layers}, {"index_n_heads", c.heads}, {"index_head_dim", c.dim}, {"index_topk", c.top_k},
                  {"stage", c.stage}};
  if (auto done = base::write_file_atomically(directory / kIndexerConfigFile, json.dump(2) + "\n"); !done) return done;
  return write_f32(directory / kIndexerWeightsFile, indexer_tensors(decoder));
}

NamedTensors indexer_tensors(const Decoder& decoder) {
  NamedTensors out;
  for (size_t i = 0; i < decoder.layers().size(); ++i) {
    if (!decoder.layers()[i].indexer) continue;
    auto indexer = *decoder.layers()[i].indexer;
    for (const auto& [name, tensor] : indexer.named_parameters()) out.emplace_back(name_in_file(i, name), *tensor);
  }
  return out;
}

}  // namespace deepseek::models
