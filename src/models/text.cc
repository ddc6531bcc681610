#include "models/text.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/gguf.h"
#include "models/deepseek/config.h"
#include "models/hub/hub.h"
#include "models/prompt.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;

// A file of the model's directory as JSON; null where it is absent.
Result<Json> optional_json(const fs::path& path) {
  if (!fs::exists(path)) return Json(nullptr);
  return base::read_json_file(path, size_t{64} << 20);
}

void append_ids(const Json& value, std::vector<int32_t>& ids) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (value.is_number_integer() && value >= 0 && value <= kMost) ids.push_back(value.get<int32_t>());
  if (!value.is_array()) return;
  for (const auto& id : value) append_ids(id, ids);
}

GenerationDefaults generation_from_json(const Json& json) {
  GenerationDefaults out;
  if (!json.is_object()) return out;
  const auto number = [&](const char* key, double& value) {
    if (const auto found = json.find(key); found != json.end() && found->is_number()) value = found->get<double>();
  };
  if (const auto found = json.find("do_sample"); found != json.end() && found->is_boolean()) out.do_sample = found->get<bool>();
  number("temperature", out.temperature);
  number("top_p", out.top_p);
  number("min_p", out.min_p);
  number("repetition_penalty", out.repetition_penalty);
  if (const auto found = json.find("top_k"); found != json.end() && found->is_number_integer()) out.top_k = found->get<int64_t>();
  if (const auto found = json.find("eos_token_id"); found != json.end()) append_ids(*found, out.eos_ids);
  return out;
}

// chat_template.jinja, else the one in tokenizer_config.json (a string, or named ones of which "default" counts).
Result<std::string> directory_template(const fs::path& directory) {
  if (fs::exists(directory / "chat_template.jinja")) return base::read_file(directory / "chat_template.jinja", size_t{16} << 20);
  auto config = optional_json(directory / "tokenizer_config.json");
  if (!config) return base::pass(config);
  if (!config->is_object() || !config->contains("chat_template")) return std::string();
  const auto& value = (*config)["chat_template"];
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return std::string();
  for (const auto& entry : value) {
    if (entry.is_object() && entry.value("name", "") == "default") return entry.value("template", "");
  }
  return std::string();
}

struct TextParts {
  DecoderConfig config;
  formats::Tokenizer tokenizer;
  std::optional<formats::ChatTemplate> chat_template;
  GenerationDefaults generation;
  std::shared_ptr<const formats::Gguf> gguf;
};

Result<TextParts> assembled(const fs::path& path, DecoderConfig config, Result<formats::Tokenizer> tokenizer, Result<std::string> source, GenerationDefaults generation) {
  if (!tokenizer) return base::pass(tokenizer);
  if (!source) return base::pass(source);
  TextParts parts{std::move(config), std::move(*tokenizer), std::nullopt, std::move(generation), nullptr};
  if (source->empty()) return parts;
  auto compiled = formats::ChatTemplate::compile(*source);
  if (!compiled) return base::within(path.string(), compiled.error());
  parts.chat_template.emplace(std::move(*compiled));
  return parts;
}

// Of any model that generates text; what else DeepSeek's models have is read with their weights.
Result<DecoderConfig> config_of_directory(const fs::path& path) {
  auto json = base::read_json_file(path / "config.json");
  if (!json) return base::pass(json);
  Result<DecoderConfig> config = DecoderConfig();
  if (json->is_object() && is_deepseek_type(base::value_or<std::string>(*json, "model_type", ""))) {
    auto whole = deepseek_config_from_json(*json);
    config = whole ? Result<DecoderConfig>(whole->common) : base::pass(whole);
  } else {
    config = decoder_config_from_json(*json);
  }
  if (!config) return base::within((path / "config.json").string(), config.error());
  return config;
}

Result<TextParts> text_parts(const fs::path& path) {
  if (path.extension() == ".gguf") {
    auto gguf = formats::Gguf::open(path);
    if (!gguf) return base::pass(gguf);
    auto config = decoder_config_from_gguf(*gguf);
    if (!config) return base::pass(config);
    GenerationDefaults generation;
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
      if (const auto id = gguf->integer(key, -1); id >= 0) generation.eos_ids.push_back(static_cast<int32_t>(id));
    }
    auto tokenizer = formats::Tokenizer::from_gguf(*gguf);
    if (!tokenizer) return base::within(path.string(), tokenizer.error());
    auto parts = assembled(path, std::move(*config), std::move(tokenizer), gguf->text("tokenizer.chat_template"), generation);
    if (parts) parts->gguf = std::make_shared<const formats::Gguf>(std::move(*gguf));
    return parts;
  }
  auto config = config_of_directory(path);
  if (!config) return base::pass(config);
  auto generation = optional_json(path / "generation_config.json");
  if (!generation) return base::pass(generation);
  return assembled(path, std::move(*config), formats::Tokenizer::open(path), directory_template(path), generation_from_json(*generation));
}

}  // namespace

Result<ModelText> open_model(const std::string& spec) {
  auto path = locate_model(spec);
  if (!path) return base::pass(path);
  auto parts = text_parts(*path);
  if (!parts) return base::pass(parts);
  DecoderConfig& config = parts->config;
  const auto vocabulary = static_cast<int64_t>(parts->tokenizer.vocabulary_size());
  for (int64_t id = config.vocab_size; id < vocabulary; ++id) {
    // Gemma 3's text models share a tokenizer with those that see: its mark for a picture lies beyond their embedding.
    if (parts->tokenizer.is_special(static_cast<int32_t>(id))) continue;
    return fail("{}: the tokenizer has {} tokens, the model only {}; they do not belong together", path->string(), vocabulary, config.vocab_size);
  }
  ModelText text{spec, *path, std::move(config), std::move(parts->tokenizer), std::move(parts->chat_template), std::move(parts->generation), std::move(parts->gguf)};
  auto& eos = text.generation.eos_ids;
  if (eos.empty()) eos.assign(text.config.eos_ids.begin(), text.config.eos_ids.end());
  if (const auto id = text.tokenizer.eos_id(); id && std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  return text;
}

base::Status require_decoder(const ModelText& text) {
  if (text.config.family != DecoderFamily::kDeepseek) return {};
  return base::refuse("{} is a DeepSeek model with latent attention: generate, chat and eval run it, this command does not yet", text.path.string());
}

Result<std::vector<int32_t>> ModelText::encode_chat(const std::vector<formats::ChatMessage>& messages, bool add_generation_prompt) const {
  if (add_generation_prompt) return encode_prompt(tokenizer, chat(), messages);
  auto example = tokenize_example(tokenizer, chat(), {.messages = messages}, LossOn::kAll);
  if (!example) return base::pass(example);
  return example->tokens;
}

}  // namespace deepseek::models
