// Weights of a DeepSeek model from a Hugging Face directory.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/safetensors.h"
#include "models/deepseek/deepseek.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using Shape = std::vector<int64_t>;

// Remembers the first error and returns undefined tensors from then on.
class Reader {
 public:
  Reader(std::shared_ptr<formats::SafeTensors> file, const base::fs::path& path, const WeightOptions& options) : file_(std::move(file)), path_(path), options_(options) {}

  [[nodiscard]] bool has(const std::string& name) const { return file_->find(name) != nullptr; }
  at::Tensor get(const std::string& name, const Shape& shape) { return read(name, shape, options_.dtype); }
  at::Tensor f32(const std::string& name, const Shape& shape) { return read(name, shape, at::kFloat); }
  [[nodiscard]] const base::Status& status() const { return status_; }

 private:
  at::Tensor read(const std::string& name, const Shape& shape, at::ScalarType type) {
    if (!status_) return {};
    const auto* info = file_->find(name);
    if (info == nullptr) {
      status_ = fail("{}: tensor '{}' is missing", path_.string(), name);
      return {};
    }
    if (auto same = formats::check_shape(*info, shape); !same) {
      status_ = base::within(path_.string(), same.error());
      return {};
    }
    auto tensor = read_weight(*info, {type, options_.device, options_.check_weights}, file_, [this](const formats::TensorInfo& read) {
      const base::MappedFile& file = file_->files()[read.file];
      file.release_pages(static_cast<size_t>(read.bytes.data() - file.bytes().data()), read.bytes.size());
    });
    if (tensor) return *tensor;
    status_ = base::within(path_.string(), tensor.error());
    return {};
  }

  std::shared_ptr<formats::SafeTensors> file_;
  const base::fs::path& path_;
  WeightOptions options_;
  base::Status status_;
};

DeepseekAttention read_attention(Reader& r, const DeepseekConfig& c, const std::string& at) {
  const int64_t hidden = c.common.hidden_size, heads = c.common.num_heads, q = heads * c.common.head_dim;
  DeepseekAttention a;
  if (c.q_lora_rank > 0) {
    a.q_a_proj = r.get(at + "q_a_proj.weight", {c.q_lora_rank, hidden});
    a.q_a_norm = r.f32(at + "q_a_layernorm.weight", {c.q_lora_rank});
    a.q_b_proj = r.get(at + "q_b_proj.weight", {q, c.q_lora_rank});
  } else {
    a.q_proj = r.get(at + "q_proj.weight", {q, hidden});
  }
  a.kv_a_proj = r.get(at + "kv_a_proj_with_mqa.weight", {c.kv_lora_rank + c.qk_rope_head_dim, hidden});
  a.kv_a_norm = r.f32(at + "kv_a_layernorm.weight", {c.kv_lora_rank});
  a.kv_b_proj = r.get(at + "kv_b_proj.weight", {heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank});
  a.o_proj = r.get(at + "o_proj.weight", {hidden, heads * c.v_head_dim});
  if (!c.has_indexer()) return a;
  const std::string index = at + "indexer.";
  a.indexer.wq_b = r.get(index + "wq_b.weight", {c.index_heads * c.index_dim, c.q_lora_rank});
  a.indexer.wk = r.get(index + "wk.weight", {c.index_dim, hidden});
  a.indexer.k_norm = r.get(index + "k_norm.weight", {c.index_dim});
  a.indexer.k_norm_bias = r.get(index + "k_norm.bias", {c.index_dim});
  a.indexer.weights_proj = r.f32(index + "weights_proj.weight", {c.index_heads, hidden});
  return a;
}

FeedForward read_feed_forward(Reader& r, const std::string& at, int64_t hidden, int64_t size) {
  return {r.get(at + "gate_proj.weight", {size, hidden}), r.get(at + "up_proj.weight", {size, hidden}), r.get(at + "down_proj.weight", {hidden, size})};
}

// Each expert by itself, as published models have them, or all in one tensor.
DeepseekExperts read_experts(Reader& r, const DeepseekConfig& c, const std::string& at) {
  const int64_t hidden = c.common.hidden_size, size = c.expert_size;
  DeepseekExperts e{r.f32(at + "gate.weight", {c.num_experts, hidden}), {}, {}};
  if (c.sigmoid_routing) e.router_bias = r.f32(at + "gate.e_score_correction_bias", {c.num_experts});
  const bool together = r.has(at + "experts.gate_up_proj");
  at::Tensor gate_up, down;
  if (together) {
    gate_up = r.get(at + "experts.gate_up_proj", {c.num_experts, 2 * size, hidden});
    down = r.get(at + "experts.down_proj", {c.num_experts, hidden, size});
  }
  for (int64_t i = 0; i < c.num_experts && r.status(); ++i) {
    if (together) e.experts.push_back({gate_up[i].narrow(0, 0, size), gate_up[i].narrow(0, size, size), down[i]});
    else e.experts.push_back(read_feed_forward(r, fmt::format("{}experts.{}.", at, i), hidden, size));
  }
  return e;
}

DeepseekLayer read_layer(Reader& r, const DeepseekConfig& c, int64_t index) {
  const std::string at = fmt::format("model.layers.{}.", index);
  const int64_t hidden = c.common.hidden_size;
  DeepseekLayer layer;
  layer.input_norm = r.f32(at + "input_layernorm.weight", {hidden});
  layer.attention = read_attention(r, c, at + "self_attn.");
  layer.post_attention_norm = r.f32(at + "post_attention_layernorm.weight", {hidden});
  if (!c.experts_in[static_cast<size_t>(index)]) {
    layer.dense = read_feed_forward(r, at + "mlp.", hidden, c.common.intermediate_size);
    return layer;
  }
  layer.experts = read_experts(r, c, at + "mlp.");
  if (c.num_shared_experts > 0) layer.dense = read_feed_forward(r, at + "mlp.shared_experts.", hidden, c.num_shared_experts * c.expert_size);
  return layer;
}

}  // namespace

Result<std::unique_ptr<Deepseek>> load_deepseek(const base::fs::path& path, const WeightOptions& options) {
  const base::fs::path file = path / "config.json";
  auto json = base::read_json_file(file);
  if (!json) return pass(json);
  auto config = deepseek_config_from_json(*json);
  if (!config) return base::within(file.string(), config.error());
  auto opened = formats::SafeTensors::open(path);
  if (!opened) return pass(opened);
  Reader reader(std::make_shared<formats::SafeTensors>(std::move(*opened)), path, options);
  const DecoderConfig& c = config->common;
  DeepseekWeights weights;
  weights.embedding = reader.get("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  weights.head = c.tie_word_embeddings ? weights.embedding : reader.get("lm_head.weight", {c.vocab_size, c.hidden_size});
  weights.final_norm = reader.f32("model.norm.weight", {c.hidden_size});
  for (int64_t i = 0; i < c.num_layers && reader.status(); ++i) weights.layers.push_back(read_layer(reader, *config, i));
  if (!reader.status()) return tl::make_unexpected(reader.status().error());
  return std::make_unique<Deepseek>(std::move(*config), std::move(weights));
}

}  // namespace deepseek::models
