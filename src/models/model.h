// A model with its weights as libtorch has them: loading and saving.
#pragma once

#include <memory>
#include <string>

#include "formats/weights/tensor_file.h"
#include "models/decoder/decoder.h"
#include "models/text.h"
#include "models/weights.h"

namespace deepseek::models {

struct LoadOptions {
  std::string dtype = "auto";    ///< "f32", "bf16" or "auto" (bf16 where the device multiplies it natively, else f32)
  std::string device = "cpu";    ///< "cpu" or "cuda"
  bool check_weights = true;     ///< refuse NaN and infinity
  base::fs::path adapter;        ///< a PEFT adapter to apply, or empty
};

struct Model : ModelText {
  std::unique_ptr<Decoder> decoder;
};

/// What the options mean on this machine. Errors: an unknown type, a device that is not there.
[[nodiscard]] base::Result<WeightOptions> weight_options(const LoadOptions& options);
/// The decoder in a directory or .gguf, with an adapter where the options name one.
[[nodiscard]] base::Result<std::unique_ptr<Decoder>> load_adapted_decoder(const base::fs::path& path, const LoadOptions& options);
/// Reads the weights of a model that was opened.
[[nodiscard]] base::Result<Model> load_weights(ModelText text, const LoadOptions& options = {});
/// Opens it, and reads its weights.
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
