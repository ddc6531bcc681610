#include "models/decoder/checkpoint.h"

#include <map>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/gguf.h"
#include "formats/weights/safetensors.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;

const std::map<std::string, std::string>& gguf_names() {
  static const std::map<std::string, std::string> kNames{
      {"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}, {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
      {"input_layernorm", "attn_norm"}, {"pre_feedforward_layernorm", "ffn_norm"}, {"post_feedforward_layernorm", "post_ffw_norm"}};
  return kNames;
}

}  // namespace

Result<DecoderConfig> read_decoder_config(const base::fs::path& path) {
  if (path.extension() == ".gguf") {
    auto gguf = formats::Gguf::open(path);
    if (!gguf) return pass(gguf);
    return decoder_config_from_gguf(*gguf);
  }
  const base::fs::path file = path / "config.json";
  auto json = base::read_json_file(file);
  if (!json) return pass(json);
  auto config = decoder_config_from_json(*json);
  if (!config) return base::within(file.string(), config.error());
  return config;
}

Result<DecoderCheckpoint> DecoderCheckpoint::open(const base::fs::path& path, std::shared_ptr<const formats::Gguf> gguf) {
  DecoderCheckpoint out;
  out.path_ = path;
  out.gguf_ = path.extension() == ".gguf";
  if (out.gguf_) {
    if (gguf == nullptr) {
      auto opened = formats::Gguf::open(path);
      if (!opened) return pass(opened);
      gguf = std::make_shared<const formats::Gguf>(std::move(*opened));
    }
    auto config = decoder_config_from_gguf(*gguf);
    if (!config) return pass(config);
    out.config_ = std::move(*config);
    out.find_ = [file = gguf.get()](const std::string& name) { return file->find(name); };
    out.file_of_ = [file = gguf.get()](const formats::TensorInfo&) -> const base::MappedFile& { return file->file(); };
    out.owner_ = std::move(gguf);
    return out;
  }
  auto config = read_decoder_config(path);
  if (!config) return pass(config);
  out.config_ = std::move(*config);
  auto opened = formats::SafeTensors::open(path);
  if (!opened) return pass(opened);
  auto tensors = std::make_shared<formats::SafeTensors>(std::move(*opened));
  out.find_ = [file = tensors.get()](const std::string& name) { return file->find(name); };
  out.file_of_ = [file = tensors.get()](const formats::TensorInfo& info) -> const base::MappedFile& { return file->files()[info.file]; };
  out.owner_ = std::move(tensors);
  for (const char* prefix : {"language_model.model.", "model.language_model."}) {
    if (out.find_(std::string(prefix) + "embed_tokens.weight") != nullptr) out.prefix_ = prefix;
  }
  return out;
}

Result<const formats::TensorInfo*> DecoderCheckpoint::named(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto* info = find_(name);
  if (info == nullptr) return fail("{}: tensor '{}' is missing", path_.string(), name);
  if (auto same = formats::check_shape(*info, shape); !same) return base::within(path_.string(), same.error());
  return info;
}

Result<const formats::TensorInfo*> DecoderCheckpoint::top(const std::string& module, const std::vector<int64_t>& shape) const {
  if (gguf_) return named(gguf_tensor_name(config_, module), shape);
  return named((module == "lm_head" ? prefix_.substr(0, prefix_.size() - 6) : prefix_) + module + ".weight", shape);
}

Result<const formats::TensorInfo*> DecoderCheckpoint::layer(int64_t index, const std::string& module, const std::vector<int64_t>& shape,
                                                            const char* kind) const {
  if (!gguf_) return named(fmt::format("{}layers.{}.{}.{}", prefix_, index, module, kind), shape);
  return named(gguf_tensor_name(config_, module, index, kind), shape);
}

int64_t DecoderCheckpoint::interleaved_heads(const std::string& module) const { return gguf_ ? gguf_interleaved_heads(config_, module) : 0; }

std::string gguf_tensor_name(const DecoderConfig& config, const std::string& module, int64_t layer, const char* kind) {
  const std::string name = module != "post_attention_layernorm" ? gguf_names().at(module) : config.post_norms ? "post_attention_norm" : "ffn_norm";
  return layer < 0 ? fmt::format("{}.{}", name, kind) : fmt::format("blk.{}.{}.{}", layer, name, kind);
}

int64_t gguf_interleaved_heads(const DecoderConfig& config, const std::string& module) {
  if (config.family != DecoderFamily::kLlama) return 0;
  return module == "self_attn.q_proj" ? config.num_heads : module == "self_attn.k_proj" ? config.num_kv_heads : 0;
}

int64_t interleaved_row(int64_t row, int64_t rows, int64_t heads) {
  if (heads == 0) return row;
  const int64_t dim = rows / heads, head = row / dim, within = row % dim, half = dim / 2;
  return head * dim + within % half * 2 + within / half;
}

void DecoderCheckpoint::release(const formats::TensorInfo& info) const {
  const base::MappedFile& file = file_of_(info);
  file.release_pages(static_cast<size_t>(info.bytes.data() - file.bytes().data()), info.bytes.size());
}

}  // namespace deepseek::models
