// An encoder from a Hugging Face directory.
#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/safetensors.h"
#include "models/bert/encoder.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;

// Reads tensors by name and remembers the first error; a tensor is undefined then.
class Reader {
 public:
  Reader(std::shared_ptr<const formats::SafeTensors> file, const WeightOptions& options) : file_(std::move(file)), options_(options) {
    for (const char* prefix : {"bert.", "roberta."}) {
      if (file_->find(std::string(prefix) + "embeddings.word_embeddings.weight") != nullptr) prefix_ = prefix;
    }
  }

  at::Tensor get(const std::string& name, const std::vector<int64_t>& shape) {
    if (!status_) return {};
    const auto* info = file_->find(prefix_ + name);
    if (info == nullptr) return note(fail("tensor '{}' is missing", prefix_ + name));
    if (auto same = formats::check_shape(*info, shape); !same) return note(base::pass(same));
    auto tensor = read_weight(*info, options_, file_);
    return tensor ? *tensor : note(base::pass(tensor));
  }
  LayerNorm norm(const std::string& name, int64_t size) { return {get(name + ".weight", {size}), get(name + ".bias", {size})}; }
  nn::Linear linear(const std::string& name, int64_t out, int64_t in) {
    nn::Linear made;
    made.name = prefix_ + name;
    made.weight = get(name + ".weight", {out, in});
    made.bias = get(name + ".bias", {out});
    return made;
  }
  // Products of the same input, one below the other.
  nn::Linear stacked(const std::string& name, const std::array<const char*, 3>& parts, int64_t size) {
    std::vector<at::Tensor> weights, biases;
    for (const char* part : parts) {
      const nn::Linear one = linear(name + part, size, size);
      if (!status_) return {};
      weights.push_back(one.weight);
      biases.push_back(one.bias);
    }
    nn::Linear made;
    made.name = prefix_ + name;
    made.weight = at::cat(weights, 0);
    made.bias = at::cat(biases, 0);
    return made;
  }
  [[nodiscard]] base::Status& status() { return status_; }

 private:
  at::Tensor note(tl::unexpected<base::Error> error) {
    if (status_) status_ = std::move(error);
    return {};
  }
  std::shared_ptr<const formats::SafeTensors> file_;
  WeightOptions options_;
  std::string prefix_;
  base::Status status_;
};

BertLayer read_layer(Reader& reader, const BertConfig& c, int64_t index) {
  const std::string name = fmt::format("encoder.layer.{}.", index);
  BertLayer layer;
  layer.qkv = reader.stacked(name + "attention.self.", {"query", "key", "value"}, c.hidden_size);
  layer.attention_output = reader.linear(name + "attention.output.dense", c.hidden_size, c.hidden_size);
  layer.attention_norm = reader.norm(name + "attention.output.LayerNorm", c.hidden_size);
  layer.intermediate = reader.linear(name + "intermediate.dense", c.intermediate_size, c.hidden_size);
  layer.output = reader.linear(name + "output.dense", c.hidden_size, c.intermediate_size);
  layer.output_norm = reader.norm(name + "output.LayerNorm", c.hidden_size);
  return layer;
}

Result<BertWeights> read_weights(const fs::path& directory, const BertConfig& c, const WeightOptions& options) {
  auto opened = formats::SafeTensors::open(directory);
  if (!opened) return base::pass(opened);
  Reader reader(std::make_shared<const formats::SafeTensors>(std::move(*opened)), options);
  BertWeights weights;
  weights.words = reader.get("embeddings.word_embeddings.weight", {c.vocab_size, c.hidden_size});
  weights.positions = reader.get("embeddings.position_embeddings.weight", {c.max_position_embeddings, c.hidden_size});
  weights.types = reader.get("embeddings.token_type_embeddings.weight", {c.type_vocab_size, c.hidden_size});
  weights.embedding_norm = reader.norm("embeddings.LayerNorm", c.hidden_size);
  for (int64_t i = 0; i < c.num_layers && reader.status(); ++i) weights.layers.push_back(read_layer(reader, c, i));
  if (!reader.status()) return base::within(directory.string(), reader.status().error());
  return weights;
}

// What sentence-transformers takes where sentence_bert_config.json says nothing: the tokenizer's own limit, within the model's.
Result<int64_t> default_length(const fs::path& directory, const BertConfig& config) {
  const fs::path file = directory / "tokenizer_config.json";
  if (!fs::exists(file)) return config.longest();
  auto json = base::read_json_file(file);
  if (!json) return base::pass(json);
  const auto said = json->is_object() ? json->find("model_max_length") : json->end();
  if (said == json->end() || !said->is_number_integer() || *said < 1) return config.longest();
  return std::min(config.longest(), said->get<int64_t>());
}

bool lowercases(const Json& normalizer) {
  if (!normalizer.is_object()) return false;
  const std::string type = normalizer.value("type", "");
  if (type == "Sequence") return std::any_of(normalizer.at("normalizers").begin(), normalizer.at("normalizers").end(), lowercases);
  return type == "Lowercase" || (type == "BertNormalizer" && normalizer.value("lowercase", true));
}

// The tokenizer with a lowercasing normalizer in front, as do_lower_case of sentence_bert_config.json asks for.
Result<formats::Tokenizer> lowercasing(formats::Tokenizer tokenizer) {
  auto json = base::parse_large_json(tokenizer.to_json());
  if (!json) return base::pass(json);
  const auto current = json->contains("normalizer") ? (*json)["normalizer"] : nlohmann::json(nullptr);
  if (lowercases(Json(current))) return tokenizer;
  auto parts = nlohmann::json::array({{{"type", "Lowercase"}}});
  if (!current.is_null()) parts.push_back(current);
  (*json)["normalizer"] = {{"type", "Sequence"}, {"normalizers", parts}};
  return formats::Tokenizer::parse(json->dump());
}

Result<formats::Tokenizer> read_tokenizer(const fs::path& directory, const BertConfig& config, const SentenceConfig& sentence) {
  auto tokenizer = formats::Tokenizer::open(directory);
  if (!tokenizer) return tokenizer;
  if (static_cast<int64_t>(tokenizer->vocabulary_size()) > config.vocab_size) {
    return fail("{}: the tokenizer has {} tokens, the model only {}; they do not belong together", directory.string(), tokenizer->vocabulary_size(),
                config.vocab_size);
  }
  return sentence.lowercase ? lowercasing(std::move(*tokenizer)) : std::move(tokenizer);
}

}  // namespace

Result<std::unique_ptr<Encoder>> load_encoder(const fs::path& directory, const WeightOptions& options) {
  if (directory.extension() == ".gguf") return base::refuse("{}: an encoder is read from a Hugging Face directory, not from a .gguf", directory.string());
  auto json = base::read_json_file(directory / "config.json");
  if (!json) return base::pass(json);
  auto config = bert_config_from_json(*json);
  if (!config) return base::within((directory / "config.json").string(), config.error());
  auto sentence = read_sentence_config(directory);
  if (!sentence) return base::pass(sentence);
  auto length = sentence->max_seq_length > 0 ? Result<int64_t>(std::min(sentence->max_seq_length, config->longest())) : default_length(directory, *config);
  if (!length) return base::pass(length);
  sentence->max_seq_length = *length;
  auto tokenizer = read_tokenizer(directory, *config, *sentence);
  if (!tokenizer) return base::pass(tokenizer);
  auto weights = read_weights(directory, *config, options);
  if (!weights) return base::pass(weights);
  return std::make_unique<Encoder>(std::move(*config), std::move(*sentence), std::move(*tokenizer), std::move(*weights));
}

}  // namespace deepseek::models
