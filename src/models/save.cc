// A model as a Hugging Face directory. Configuration and tokenizer come first, weights last: a directory with weights is whole.
#include <ATen/core/grad_mode.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/safetensors.h"
#include "models/adapter/adapter.h"
#include "models/decoder/load.h"
#include "models/model.h"
#include "models/save_gguf.h"

namespace deepseek::models {
namespace {

using base::fail;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;

base::Status write_json(const fs::path& path, const Json& json) { return base::write_file_atomically(path, json.dump(2) + "\n"); }

Json generation_json(const GenerationDefaults& defaults) {
  Json json;
  if (!defaults.eos_ids.empty()) json["eos_token_id"] = defaults.eos_ids;
  json["do_sample"] = defaults.do_sample;
  if (defaults.do_sample) {
    json["temperature"] = defaults.temperature;
    json["top_p"] = defaults.top_p;
    if (defaults.top_k > 0) json["top_k"] = defaults.top_k;
    if (defaults.min_p > 0) json["min_p"] = defaults.min_p;
  }
  if (defaults.repetition_penalty != 1.0) json["repetition_penalty"] = defaults.repetition_penalty;
  return json;
}

Json tokenizer_config(const ModelText& model) {
  Json json;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  const auto name = [&](const char* key, std::optional<int32_t> id) {
    if (id) json[key] = model.tokenizer.token(*id);
  };
  name("bos_token", model.tokenizer.bos_id());
  name("eos_token", model.tokenizer.eos_id());
  name("pad_token", model.tokenizer.pad_id());
  if (model.chat_template) json["chat_template"] = model.chat_template->source();
  json["model_max_length"] = model.config.max_position_embeddings;
  return json;
}

// Files of the original directory that describe text are kept as they are.
bool copied(const ModelText& model, const fs::path& directory, const char* name) {
  std::error_code error;
  if (model.path.extension() == ".gguf" || !fs::exists(model.path / name, error)) return false;
  if (fs::equivalent(model.path / name, directory / name, error)) return true;
  fs::copy_file(model.path / name, directory / name, fs::copy_options::overwrite_existing, error);
  return !error;
}

base::Status write_texts(const ModelText& model, const Json& config, const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail("cannot create {}: {}", directory.string(), error.message());
  if (auto done = write_json(directory / "config.json", config); !done) return done;
  if (!copied(model, directory, "generation_config.json")) {
    if (auto done = write_json(directory / "generation_config.json", generation_json(model.generation)); !done) return done;
  }
  if (!copied(model, directory, "tokenizer.json")) {
    if (auto done = base::write_file_atomically(directory / "tokenizer.json", model.tokenizer.to_json()); !done) return done;
  }
  for (const char* name : {"chat_template.jinja", "special_tokens_map.json", "tokenizer.model"}) copied(model, directory, name);
  if (copied(model, directory, "tokenizer_config.json")) return {};
  return write_json(directory / "tokenizer_config.json", tokenizer_config(model));
}

}  // namespace

base::Status save_model(const Model& model, const fs::path& directory) {
  for (const auto* layer : linear_layers(static_cast<const Decoder&>(*model.decoder))) {
    if (layer->lora) return fail("{} still has an adapter; merge it before the model is written", layer->name);
  }
  const char* dtype = model.decoder->dtype() == at::kBFloat16 ? "bfloat16" : "float32";
  if (auto done = write_texts(model, decoder_config_to_json(model.decoder->config(), dtype), directory); !done) return done;
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorToWrite> tensors;
  for (const auto& [name, tensor] : named_weights(*model.decoder)) {
    kept.push_back(tensor.detach().cpu().contiguous());
    const auto type = tensor.scalar_type() == at::kBFloat16 ? formats::DType::kBF16 : formats::DType::kF32;
    tensors.push_back({name, type, kept.back().sizes().vec(), {static_cast<const std::byte*>(kept.back().const_data_ptr()), kept.back().nbytes()}});
  }
  return formats::write_safetensors_sharded(directory, tensors);
}

base::Status save_tensors(const ModelText& model, const std::vector<ReadyTensor>& tensors, const fs::path& output) {
  if (output.extension() == ".gguf") return save_gguf(model, tensors, output);
  Json config = decoder_config_to_json(model.config, "bfloat16");
  std::map<std::string, int64_t> types;
  std::vector<formats::TensorToWrite> named;
  for (const auto& tensor : tensors) {
    if (formats::block_size(tensor.type).elements > 1) ++types[formats::dtype_name(tensor.type)];
    const std::string prefix = tensor.module == "lm_head" ? "" : tensor.layer < 0 ? "model." : fmt::format("model.layers.{}.", tensor.layer);
    named.push_back({prefix + tensor.module + "." + tensor.kind, tensor.type, tensor.shape, tensor.bytes});
  }
  if (!types.empty()) config["quantization_config"] = {{"quant_method", kBlocksMethod}, {"tensors", types}};
  if (auto done = write_texts(model, config, output); !done) return done;
  return formats::write_safetensors_sharded(output, named);
}

}  // namespace deepseek::models
