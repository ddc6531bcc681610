// A decoder's file as it is: which tensor is which module's, nothing converted yet.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/files.h"
#include "formats/weights/tensor_file.h"
#include "models/decoder/config.h"

namespace deepseek::models {

/// A Hugging Face directory or a .gguf. Modules go by Hugging Face's names without what comes before the layer:
/// "self_attn.q_proj", "input_layernorm"; above the layers "embed_tokens", "norm", "lm_head".
class DecoderCheckpoint {
 public:
  /// `gguf`: the file at `path` where it was opened already. Errors: not there, unknown architecture, missing shard, a damaged header.
  [[nodiscard]] static base::Result<DecoderCheckpoint> open(const base::fs::path& path, std::shared_ptr<const formats::Gguf> gguf = nullptr);

  [[nodiscard]] const DecoderConfig& config() const { return config_; }
  [[nodiscard]] const base::fs::path& path() const { return path_; }

  /// The tensor of a module, kind "weight" or "bias". Errors: missing, or of another shape than the configuration asks for.
  [[nodiscard]] base::Result<const formats::TensorInfo*> top(const std::string& module, const std::vector<int64_t>& shape) const;
  [[nodiscard]] base::Result<const formats::TensorInfo*> layer(int64_t index, const std::string& module, const std::vector<int64_t>& shape,
                                                               const char* kind = "weight") const;
  /// llama.cpp stores q and k of Llama with the halves of each head's rows interleaved: the number of heads, 0 where rows are in order.
  [[nodiscard]] int64_t interleaved_heads(const std::string& module) const;
  /// GGUF stores 1 + w for norms whose weight is w (DecoderConfig::norm_plus_one).
  [[nodiscard]] bool norms_hold_one() const { return gguf_ && config_.norm_plus_one; }

  /// Keeps the map alive as long as it is held.
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }
  /// Its pages will not be read again soon.
  void release(const formats::TensorInfo& info) const;

 private:
  [[nodiscard]] base::Result<const formats::TensorInfo*> named(const std::string& name, const std::vector<int64_t>& shape) const;
  DecoderConfig config_;
  base::fs::path path_;
  bool gguf_ = false;
  std::string prefix_ = "model.";
  std::shared_ptr<const void> owner_;
  std::function<const formats::TensorInfo*(const std::string&)> find_;
  std::function<const base::MappedFile&(const formats::TensorInfo&)> file_of_;
};

/// The configuration alone.
[[nodiscard]] base::Result<DecoderConfig> read_decoder_config(const base::fs::path& path);

/// The name of a module's tensor in a GGUF; layer -1: above the layers.
[[nodiscard]] std::string gguf_tensor_name(const DecoderConfig& config, const std::string& module, int64_t layer = -1, const char* kind = "weight");
/// As DecoderCheckpoint::interleaved_heads(), for any GGUF of this configuration.
[[nodiscard]] int64_t gguf_interleaved_heads(const DecoderConfig& config, const std::string& module);
/// The row of such a tensor that is `row` in order.
[[nodiscard]] int64_t interleaved_row(int64_t row, int64_t rows, int64_t heads);

/// A layer from its modules, whatever its members hold: linear(module, out, in, has_bias) gives each product in this order, q, k, v, o,
/// gate, up, down, and norm(module, size) each norm that the family has.
template <typename Layer, typename Linear, typename Norm>
Layer read_decoder_layer(const DecoderConfig& c, const Linear& linear, const Norm& norm) {
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  Layer layer;
  layer.q = linear("self_attn.q_proj", q, c.hidden_size, c.attention_bias);
  layer.k = linear("self_attn.k_proj", kv, c.hidden_size, c.attention_bias);
  layer.v = linear("self_attn.v_proj", kv, c.hidden_size, c.attention_bias);
  layer.o = linear("self_attn.o_proj", c.hidden_size, q, c.attention_output_bias);
  layer.gate = linear("mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
  layer.up = linear("mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
  layer.down = linear("mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
  layer.input_norm = norm("input_layernorm", c.hidden_size);
  layer.post_attention_norm = norm("post_attention_layernorm", c.hidden_size);
  if (c.post_norms) {
    layer.pre_feedforward_norm = norm("pre_feedforward_layernorm", c.hidden_size);
    layer.post_feedforward_norm = norm("post_feedforward_layernorm", c.hidden_size);
  }
  if (c.qk_norm) {
    layer.q_norm = norm("self_attn.q_norm", c.head_dim);
    layer.k_norm = norm("self_attn.k_norm", c.head_dim);
  }
  return layer;
}

}  // namespace deepseek::models
