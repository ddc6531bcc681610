#include "models/decoder/load.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <random>

#include "formats/weights/gguf.h"
#include "formats/weights/safetensors.h"
#include "models/decoder/checkpoint.h"
#include "models/weights.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;

// llama.cpp stores q and k of Llama with the halves of each head interleaved; this undoes it.
at::Tensor unpermuted(const at::Tensor& weight, int64_t heads) {
  const auto shape = weight.sizes().vec();
  std::vector<int64_t> pairs{heads, shape[0] / heads / 2, 2};
  pairs.insert(pairs.end(), shape.begin() + 1, shape.end());
  return weight.view(pairs).transpose(1, 2).reshape(shape);
}

class Reader {
 public:
  Reader(const DecoderCheckpoint& checkpoint, const DecoderLoadOptions& options) : checkpoint_(checkpoint), options_(options) {}

  // Each remembers the first error and returns an undefined tensor then.
  at::Tensor top(const std::string& module, const std::vector<int64_t>& shape) { return get(checkpoint_.top(module, shape), options_.dtype); }
  at::Tensor layer(int64_t index, const std::string& module, const std::vector<int64_t>& shape, const char* kind = "weight") {
    at::Tensor tensor = get(checkpoint_.layer(index, module, shape, kind), options_.dtype);
    const int64_t heads = checkpoint_.interleaved_heads(module);
    return heads > 0 && tensor.defined() ? unpermuted(tensor, heads) : tensor;
  }
  at::Tensor top_norm(const std::string& module, int64_t size) { return norm(checkpoint_.top(module, {size})); }
  at::Tensor layer_norm(int64_t index, const std::string& module, int64_t size) { return norm(checkpoint_.layer(index, module, {size})); }
  [[nodiscard]] const base::Status& status() const { return status_; }

 private:
  at::Tensor norm(const Result<const formats::TensorInfo*>& found) {
    at::Tensor weight = get(found, at::kFloat);
    return checkpoint_.norms_hold_one() && weight.defined() ? weight - 1 : weight;
  }
  at::Tensor get(const Result<const formats::TensorInfo*>& found, at::ScalarType type) {
    if (!status_) return {};
    if (!found) return note(tl::make_unexpected(found.error()));
    auto tensor = read_weight(**found, {type, options_.device, options_.check_weights}, checkpoint_.owner(),
                              [this](const formats::TensorInfo& info) { checkpoint_.release(info); });
    return tensor ? *tensor : note(base::within(checkpoint_.path().string(), tensor.error()));
  }
  at::Tensor note(tl::unexpected<base::Error> error) {
    if (status_) status_ = std::move(error);
    return {};
  }
  const DecoderCheckpoint& checkpoint_;
  DecoderLoadOptions options_;
  base::Status status_;
};

DecoderLayer read_layer(Reader& reader, const DecoderConfig& config, int64_t i) {
  const auto linear = [&](const char* module, int64_t out, int64_t in, bool bias) {
    nn::Linear made;
    made.name = fmt::format("model.layers.{}.{}", i, module);
    made.weight = reader.layer(i, module, {out, in});
    if (bias) made.bias = reader.layer(i, module, {out}, "bias");
    return made;
  };
  const auto norm = [&](const char* module, int64_t size) { return reader.layer_norm(i, module, size); };
  return read_decoder_layer<DecoderLayer>(config, linear, norm);
}

}  // namespace

Result<std::unique_ptr<Decoder>> load_decoder(const fs::path& path, const DecoderLoadOptions& options) {
  auto checkpoint = DecoderCheckpoint::open(path);
  if (!checkpoint) return pass(checkpoint);
  const DecoderConfig& config = checkpoint->config();
  Reader reader(*checkpoint, options);
  at::Tensor embedding = reader.top("embed_tokens", {config.vocab_size, config.hidden_size});
  at::Tensor head = config.tie_word_embeddings ? embedding : reader.top("lm_head", {config.vocab_size, config.hidden_size});
  at::Tensor norm = reader.top_norm("norm", config.hidden_size);
  std::vector<DecoderLayer> layers;
  for (int64_t i = 0; i < config.num_layers && reader.status(); ++i) layers.push_back(read_layer(reader, config, i));
  if (!reader.status()) return tl::make_unexpected(reader.status().error());
  return std::make_unique<Decoder>(config, embedding, head, norm, std::move(layers));
}

Result<at::ScalarType> stored_dtype(const fs::path& path) {
  const auto widest = [](const std::vector<formats::TensorInfo>& tensors) {
    const auto wide = [](const auto& info) { return info.shape.size() == 2 && info.type == formats::DType::kF32; };
    return std::any_of(tensors.begin(), tensors.end(), wide) ? at::kFloat : at::kBFloat16;
  };
  if (path.extension() == ".gguf") {
    auto gguf = formats::Gguf::open(path);
    if (!gguf) return pass(gguf);
    return widest(gguf->tensors());
  }
  auto tensors = formats::SafeTensors::open(path);
  if (!tensors) return pass(tensors);
  return widest(tensors->tensors());
}

std::unique_ptr<Decoder> random_decoder(const DecoderConfig& c, const DecoderLoadOptions& options, uint64_t seed) {
  uint64_t counter = seed * 1000003;
  const auto random = [&](std::vector<int64_t> shape) {
    const double deviation = 1.0 / std::sqrt(static_cast<double>(shape.back()));
    return at::empty(shape, at::TensorOptions().dtype(options.dtype).device(options.device)).uniform_(-1.7 * deviation, 1.7 * deviation, at::make_generator<at::CPUGeneratorImpl>(++counter));
  };
  const auto ones = [&](int64_t n) {
    return c.norm_plus_one ? at::zeros({n}, at::TensorOptions().device(options.device)) : at::ones({n}, at::TensorOptions().device(options.device));
  };
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  std::vector<DecoderLayer> layers(c.num_layers);
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const auto linear = [&](const char* module, int64_t out, int64_t in) {
      return nn::Linear{.name = fmt::format("model.layers.{}.{}", i, module), .weight = random({out, in}), .bias = {}, .lora = {}};
    };
    DecoderLayer& layer = layers[i];
    layer.q = linear("self_attn.q_proj", q, c.hidden_size);
    layer.k = linear("self_attn.k_proj", kv, c.hidden_size);
    layer.v = linear("self_attn.v_proj", kv, c.hidden_size);
    layer.o = linear("self_attn.o_proj", c.hidden_size, q);
    layer.gate = linear("mlp.gate_proj", c.intermediate_size, c.hidden_size);
    layer.up = linear("mlp.up_proj", c.intermediate_size, c.hidden_size);
    layer.down = linear("mlp.down_proj", c.hidden_size, c.intermediate_size);
    layer.input_norm = layer.post_attention_norm = layer.pre_feedforward_norm = layer.post_feedforward_norm = ones(c.hidden_size);
    layer.q_norm = layer.k_norm = ones(c.head_dim);
  }
  const at::Tensor embedding = random({c.vocab_size, c.hidden_size});
  return std::make_unique<Decoder>(c, embedding, c.tie_word_embeddings ? embedding : random({c.vocab_size, c.hidden_size}),
                                   ones(c.hidden_size), std::move(layers));
}

std::vector<std::pair<std::string, at::Tensor>> named_weights(const Decoder& decoder) {
  const DecoderConfig& c = decoder.config();
  std::vector<std::pair<std::string, at::Tensor>> weights{{"model.embed_tokens.weight", decoder.embedding()}};
  for (size_t i = 0; i < decoder.layers().size(); ++i) {
    const DecoderLayer& layer = decoder.layers()[i];
    const std::string prefix = fmt::format("model.layers.{}.", i);
    for (const nn::Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      weights.emplace_back(linear->name + ".weight", linear->weight);
      if (linear->bias.defined()) weights.emplace_back(linear->name + ".bias", linear->bias);
    }
    weights.emplace_back(prefix + "input_layernorm.weight", layer.input_norm);
    weights.emplace_back(prefix + "post_attention_layernorm.weight", layer.post_attention_norm);
    if (c.post_norms) {
      weights.emplace_back(prefix + "pre_feedforward_layernorm.weight", layer.pre_feedforward_norm);
      weights.emplace_back(prefix + "post_feedforward_layernorm.weight", layer.post_feedforward_norm);
    }
    if (c.qk_norm) {
      weights.emplace_back(prefix + "self_attn.q_norm.weight", layer.q_norm);
      weights.emplace_back(prefix + "self_attn.k_norm.weight", layer.k_norm);
    }
  }
  weights.emplace_back("model.norm.weight", decoder.final_norm());
  if (!c.tie_word_embeddings) weights.emplace_back("lm_head.weight", decoder.head());
  return weights;
}

}  // namespace deepseek::models
