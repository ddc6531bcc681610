// A model as a user has it: a name, a directory or a .gguf becomes weights, tokenizer, chat template and defaults.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "formats/chat_template/chat_template.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/weights/tensor_file.h"
#include "models/decoder/decoder.h"

namespace deepseek::models {

/// generation_config.json: the model's own defaults for sampling; absent values keep the defaults here.
struct GenerationDefaults {
  bool do_sample = false;
  double temperature = 1.0, top_p = 1.0, min_p = 0.0, repetition_penalty = 1.0;
  int64_t top_k = 0;
  std::vector<int32_t> eos_ids;
};

struct LoadOptions {
  std::string dtype = "auto";    ///< "f32", "bf16" or "auto" (bf16 where the CPU multiplies it natively, else f32)
  std::string device = "cpu";    ///< "cpu" or "cuda"
  bool check_weights = true;     ///< refuse NaN and infinity
  base::fs::path adapter;        ///< a PEFT adapter to apply, or empty
};

/// All of a model but its weights: enough to plan, to tokenise and to refuse before anything large is read.
struct ModelText {
  std::string name;              ///< as asked for
  base::fs::path path;           ///< directory or .gguf
  DecoderConfig config;
  formats::Tokenizer tokenizer;
  std::optional<formats::ChatTemplate> chat_template;
  GenerationDefaults generation;

  [[nodiscard]] const formats::ChatTemplate* chat() const { return chat_template ? &*chat_template : nullptr; }
  /// Renders messages with the model's template (the plain form of models/prompt.h where it has none) and tokenises.
  [[nodiscard]] base::Result<std::vector<int32_t>> encode_chat(const std::vector<formats::ChatMessage>& messages,
                                                               bool add_generation_prompt) const;
};

struct Model : ModelText {
  std::unique_ptr<Decoder> decoder;
};

/// `spec`: a registry name ("gemma-3-270m"), owner/name in the cache, a directory, or a .gguf file.
[[nodiscard]] base::Result<ModelText> open_model(const std::string& spec);
/// The decoder in a directory or .gguf, with an adapter where the options name one.
[[nodiscard]] base::Result<std::unique_ptr<Decoder>> load_adapted_decoder(const base::fs::path& path, const LoadOptions& options);
/// Reads the weights of a model that was opened.
[[nodiscard]] base::Result<Model> load_weights(ModelText text, const LoadOptions& options = {});
/// Both.
[[nodiscard]] base::Result<Model> load_model(const std::string& spec, const LoadOptions& options = {});

/// Type of the weights that "auto", "f32" or "bf16" means on this machine.
[[nodiscard]] base::Result<at::ScalarType> resolve_dtype(const std::string& dtype);

/// The model and its tokenizer as a Hugging Face directory (config, generation config, tokenizer, weights in the model's type).
/// Any LoRA in it must have been merged before (nn::Linear::merge).
[[nodiscard]] base::Status save_model(const Model& model, const base::fs::path& directory);

/// A tensor of a decoder that is ready to be written: rows in Hugging Face's order, norms as Hugging Face stores them, f32.
struct ReadyTensor {
  std::string module;          ///< "embed_tokens", "norm", "lm_head"; inside a layer "self_attn.q_proj"
  int64_t layer = -1;
  std::string kind = "weight"; ///< or "bias"
  formats::DType type = formats::DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};
/// All tensors of a decoder, any types, with its texts: a GGUF that llama.cpp loads where the output ends in .gguf, else a directory as
/// save_model() writes it, block types as formats::SafeTensors keeps them. Errors: what GGUF cannot say of this model, a full disk.
[[nodiscard]] base::Status save_tensors(const ModelText& text, const std::vector<ReadyTensor>& tensors, const base::fs::path& output);

}  // namespace deepseek::models
