#include "models/decoder/load.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <fmt/ranges.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "base/json.h"
#include "formats/weights/convert.h"
#include "formats/weights/gguf.h"
#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;

// Where weights come from, under Hugging Face's names.
struct Source {
  std::shared_ptr<const void> owner;
  std::function<const formats::TensorInfo*(const std::string&)> find;
  const base::MappedFile* (*file_of)(const void* owner, const formats::TensorInfo& info);
  fs::path path;
  bool gguf = false;
};

at::Tensor converted(const Source& source, const formats::TensorInfo& info, at::ScalarType type, base::Status& status) {
  at::Tensor out = at::empty(info.shape, type);
  const int64_t n = info.elements();
  constexpr int64_t kChunk = 1 << 16;  // a multiple of every block size
  at::parallel_for(0, (n + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer(kChunk);
    for (int64_t c = begin; c < end; ++c) {
      const int64_t at = c * kChunk, size = std::min(kChunk, n - at);
      float* to = type == at::kFloat ? out.mutable_data_ptr<float>() + at : buffer.data();
      if (auto done = formats::dequantize_range(info, at, {to, static_cast<size_t>(size)}); !done) {
        status = done;
        return;
      }
      if (type == at::kBFloat16) {
        formats::f32_to_bf16({buffer.data(), static_cast<size_t>(size)},
                             {static_cast<uint16_t*>(out.data_ptr()) + at, static_cast<size_t>(size)});
      }
    }
  });
  const auto* file = source.file_of(source.owner.get(), info);
  file->release_pages(static_cast<size_t>(info.bytes.data() - file->bytes().data()), info.bytes.size());
  return out;
}

class Reader {
 public:
  Reader(Source source, const DecoderLoadOptions& options) : source_(std::move(source)), options_(options) {}

  // The named tensor in `type`; remembers the first error and returns an undefined tensor then.
  at::Tensor get(const std::string& name, std::vector<int64_t> shape, at::ScalarType type) {
    if (!status_) return {};
    const auto* info = source_.find(name);
    if (info == nullptr) return note(fail("{}: tensor '{}' is missing", source_.path.string(), name));
    if (info->shape != shape) {
      return note(fail("{}: tensor '{}' has shape [{}], the configuration asks for [{}]", source_.path.string(), name,
                       fmt::join(info->shape, ", "), fmt::join(shape, ", ")));
    }
    if (options_.check_weights) {
      if (auto finite = formats::check_finite(*info); !finite) return note(base::within(source_.path.string(), finite.error()));
    }
    const bool same = (info->type == formats::DType::kF32 && type == at::kFloat) || (info->type == formats::DType::kBF16 && type == at::kBFloat16);
    const auto address = reinterpret_cast<uintptr_t>(info->bytes.data());
    if (same && options_.device.is_cpu() && address % 4 == 0) {
      // The map is private and read-only; nothing here writes to weights in place.
      return at::from_blob(const_cast<std::byte*>(info->bytes.data()), shape, [owner = source_.owner](void*) {}, at::TensorOptions().dtype(type));
    }
    base::Status done;
    at::Tensor tensor = converted(source_, *info, type, done);
    if (!done) return note(base::within(name, done.error()));
    return tensor.to(options_.device);
  }
  [[nodiscard]] bool has(const std::string& name) const { return source_.find(name) != nullptr; }
  [[nodiscard]] const base::Status& status() const { return status_; }
  [[nodiscard]] bool gguf() const { return source_.gguf; }

 private:
  at::Tensor note(tl::unexpected<base::Error> error) {
    if (status_) status_ = std::move(error);
    return {};
  }
  Source source_;
  DecoderLoadOptions options_;
  base::Status status_;
};

// Names of one checkpoint: Hugging Face's, or GGUF's for the same module.
struct Names {
  std::string prefix;  // "model." or "language_model.model."
  bool gguf;

  [[nodiscard]] std::string top(const std::string& name) const {
    if (!gguf) return name == "lm_head" ? prefix.substr(0, prefix.size() - 6) + "lm_head.weight" : prefix + name + ".weight";
    static const std::map<std::string, std::string> kNames{{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}};
    return kNames.at(name) + ".weight";
  }
  [[nodiscard]] std::string layer(int64_t index, const std::string& module, bool post_norms, const char* kind = "weight") const {
    if (!gguf) return fmt::format("{}layers.{}.{}.{}", prefix, index, module, kind);
    static const std::map<std::string, std::string> kNames{
        {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}, {"input_layernorm", "attn_norm"}, {"pre_feedforward_layernorm", "ffn_norm"},
        {"post_feedforward_layernorm", "post_ffw_norm"}};
    if (module == "post_attention_layernorm") return fmt::format("blk.{}.{}.{}", index, post_norms ? "post_attention_norm" : "ffn_norm", kind);
    return fmt::format("blk.{}.{}.{}", index, kNames.at(module), kind);
  }
};

// llama.cpp stores q and k of Llama with the halves of each head interleaved; this undoes it.
at::Tensor unpermuted(const at::Tensor& weight, int64_t heads) {
  const auto shape = weight.sizes().vec();
  std::vector<int64_t> pairs{heads, shape[0] / heads / 2, 2};
  pairs.insert(pairs.end(), shape.begin() + 1, shape.end());
  return weight.view(pairs).transpose(1, 2).reshape(shape);
}

DecoderLayer read_layer(Reader& reader, const DecoderConfig& c, const Names& names, int64_t i, at::ScalarType type) {
  DecoderLayer layer;
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  const auto linear = [&](const char* module, int64_t out, int64_t in, bool bias, int64_t permuted_heads = 0) {
    nn::Linear made;
    made.name = fmt::format("model.layers.{}.{}", i, module);
    made.weight = reader.get(names.layer(i, module, c.post_norms), {out, in}, type);
    if (bias) made.bias = reader.get(names.layer(i, module, c.post_norms, "bias"), {out}, type);
    if (permuted_heads > 0 && made.weight.defined()) {
      made.weight = unpermuted(made.weight, permuted_heads);
      if (made.bias.defined()) made.bias = unpermuted(made.bias, permuted_heads);
    }
    return made;
  };
  const bool permuted = names.gguf && c.family == DecoderFamily::kLlama;
  layer.q = linear("self_attn.q_proj", q, c.hidden_size, c.attention_bias, permuted ? c.num_heads : 0);
  layer.k = linear("self_attn.k_proj", kv, c.hidden_size, c.attention_bias, permuted ? c.num_kv_heads : 0);
  layer.v = linear("self_attn.v_proj", kv, c.hidden_size, c.attention_bias);
  layer.o = linear("self_attn.o_proj", c.hidden_size, q, c.attention_output_bias);
  layer.gate = linear("mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
  layer.up = linear("mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias);
  layer.down = linear("mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
  const auto norm = [&](const char* module, int64_t size) {
    at::Tensor weight = reader.get(names.layer(i, module, c.post_norms), {size}, at::kFloat);
    return names.gguf && c.norm_plus_one && weight.defined() ? weight - 1 : weight;
  };
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

Result<std::unique_ptr<Decoder>> build(Reader& reader, const DecoderConfig& config, const DecoderLoadOptions& options) {
  Names names{"model.", reader.gguf()};
  for (const char* prefix : {"language_model.model.", "model.language_model."}) {
    if (!names.gguf && reader.has(std::string(prefix) + "embed_tokens.weight")) names.prefix = prefix;
  }
  at::Tensor embedding = reader.get(names.top("embed_tokens"), {config.vocab_size, config.hidden_size}, options.dtype);
  at::Tensor head = config.tie_word_embeddings ? embedding : reader.get(names.top("lm_head"), {config.vocab_size, config.hidden_size}, options.dtype);
  at::Tensor norm = reader.get(names.top("norm"), {config.hidden_size}, at::kFloat);
  if (names.gguf && config.norm_plus_one && norm.defined()) norm = norm - 1;
  std::vector<DecoderLayer> layers;
  for (int64_t i = 0; i < config.num_layers && reader.status(); ++i) layers.push_back(read_layer(reader, config, names, i, options.dtype));
  if (!reader.status()) return tl::make_unexpected(reader.status().error());
  return std::make_unique<Decoder>(config, embedding, head, norm, std::move(layers));
}

Result<std::unique_ptr<Decoder>> load_gguf(const fs::path& path, const DecoderLoadOptions& options) {
  auto opened = formats::Gguf::open(path);
  if (!opened) return pass(opened);
  auto gguf = std::make_shared<formats::Gguf>(std::move(*opened));
  auto config = decoder_config_from_gguf(*gguf);
  if (!config) return pass(config);
  const auto* file = gguf.get();
  Source source{gguf, [file](const std::string& name) { return file->find(name); },
                [](const void* owner, const formats::TensorInfo&) { return &static_cast<const formats::Gguf*>(owner)->file(); }, path, true};
  if (const auto* factors = file->find("rope_freqs.weight"); factors != nullptr) {
    // Llama 3's stretched frequencies are stored as factors; the rule that made them is fixed.
    config->rope.scaling = "llama3";
    config->rope.factor = config->max_position_embeddings > 8192 && config->num_layers <= 28 ? 32.0 : 8.0;
  }
  Reader reader(std::move(source), options);
  return build(reader, *config, options);
}

Result<std::unique_ptr<Decoder>> load_directory(const fs::path& path, const DecoderLoadOptions& options) {
  auto config = read_decoder_config(path);
  if (!config) return pass(config);
  auto opened = formats::SafeTensors::open(path);
  if (!opened) return pass(opened);
  auto tensors = std::make_shared<formats::SafeTensors>(std::move(*opened));
  const auto* raw = tensors.get();
  Source source{tensors, [raw](const std::string& name) { return raw->find(name); },
                [](const void* owner, const formats::TensorInfo& info) {
                  return &static_cast<const formats::SafeTensors*>(owner)->files()[info.file];
                },
                path, false};
  Reader reader(std::move(source), options);
  return build(reader, *config, options);
}

}  // namespace

Result<DecoderConfig> read_decoder_config(const fs::path& path) {
  if (path.extension() == ".gguf") {
    auto gguf = formats::Gguf::open(path);
    if (!gguf) return pass(gguf);
    return decoder_config_from_gguf(*gguf);
  }
  const fs::path file = path / "config.json";
  auto text = base::read_file(file, size_t{16} << 20);
  if (!text) return pass(text);
  auto json = base::parse_json(*text);
  if (!json) return base::within(file.string(), json.error());
  auto config = decoder_config_from_json(*json);
  if (!config) return base::within(file.string(), config.error());
  return config;
}

Result<std::unique_ptr<Decoder>> load_decoder(const fs::path& path, const DecoderLoadOptions& options) {
  return path.extension() == ".gguf" ? load_gguf(path, options) : load_directory(path, options);
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
