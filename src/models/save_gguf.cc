#include "models/save_gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/weights/gguf_write.h"
#include "models/decoder/checkpoint.h"

namespace deepseek::models {
namespace {

using formats::DType;
namespace fs = base::fs;

// llama.cpp's number for a file by what most of its matrices are.
uint32_t file_type(const std::vector<ReadyTensor>& tensors) {
  constexpr std::pair<DType, uint32_t> kNumbers[] = {{DType::kF32, 0}, {DType::kF16, 1}, {DType::kQ4_0, 2}, {DType::kQ4_1, 3}, {DType::kQ8_0, 7},
                                                     {DType::kQ5_0, 8}, {DType::kQ5_1, 9}, {DType::kQ4_K, 15}, {DType::kQ5_K, 17}, {DType::kQ6_K, 18},
                                                     {DType::kBF16, 32}};
  uint32_t best = 0;
  int64_t most = 0;
  for (const auto& [type, number] : kNumbers) {
    const auto count = std::count_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.shape.size() == 2 && t.layer >= 0 && t.type == type; });
    if (count > most) {
      most = count;
      best = number;
    }
  }
  return best;
}

bool kept(const std::string& key) {
  return key != "general.alignment" && key != "general.file_type" && key != "general.quantization_version" && !key.starts_with("split.") &&
         !key.starts_with("quantize.");
}

base::Status keep_metadata(const fs::path& source, formats::GgufMetadata& out) {
  auto gguf = formats::Gguf::open(source);
  if (!gguf) return base::pass(gguf);
  for (const auto& [key, value] : gguf->stored_metadata()) {
    if (kept(key)) out.stored(key, value);
  }
  return {};
}

base::Status make_metadata(const ModelText& text, formats::GgufMetadata& out) {
  out.text("general.architecture", family_name(text.config.family));
  out.text("general.type", "model");
  out.text("general.name", text.path.filename().string());
  if (auto done = decoder_config_to_gguf(text.config, out); !done) return done;
  if (auto done = text.tokenizer.to_gguf(text.config.vocab_size, out); !done) return done;
  // What ends an answer beside the end of a text: one more id fits.
  const auto eos = text.tokenizer.eos_id();
  for (const int32_t id : text.generation.eos_ids) {
    if (id == eos) continue;
    out.integer("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(id));
    break;
  }
  if (text.chat_template) out.text("tokenizer.chat_template", text.chat_template->source());
  return {};
}

// Rows, or the elements of a bias, where llama.cpp wants them.
void interleave(std::vector<std::byte>& bytes, int64_t rows, int64_t heads) {
  if (heads == 0) return;
  const auto size = bytes.size() / static_cast<size_t>(rows);
  std::vector<std::byte> moved(bytes.size());
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(moved.data() + static_cast<size_t>(interleaved_row(r, rows, heads)) * size, bytes.data() + static_cast<size_t>(r) * size, size);
  }
  bytes = std::move(moved);
}

void add_one(std::vector<std::byte>& bytes) {
  for (size_t at = 0; at + sizeof(float) <= bytes.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, bytes.data() + at, sizeof(value));
    value += 1.0f;
    std::memcpy(bytes.data() + at, &value, sizeof(value));
  }
}

// By how much each wavelength is stretched.
std::vector<float> rope_factors(const DecoderConfig& c) {
  RopeConfig plain;
  plain.theta = c.rope.theta;
  std::vector<float> factors = rope_frequencies(plain, c.head_dim);
  const auto stretched = rope_frequencies(c.rope, c.head_dim);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] /= stretched[i];
  return factors;
}

}  // namespace

base::Status save_gguf(const ModelText& text, const std::vector<ReadyTensor>& tensors, const fs::path& path) {
  const DecoderConfig& c = text.config;
  formats::GgufMetadata metadata;
  const bool from_gguf = text.path.extension() == ".gguf";
  if (auto done = from_gguf ? keep_metadata(text.path, metadata) : make_metadata(text, metadata); !done) return done;
  metadata.integer("general.quantization_version", 2);
  metadata.integer("general.file_type", file_type(tensors));
  std::vector<std::vector<std::byte>> changed;
  std::vector<formats::TensorToWrite> out;
  changed.reserve(tensors.size());
  for (const auto& tensor : tensors) {
    const bool norm = tensor.module.find("norm") != std::string::npos;
    const int64_t heads = gguf_interleaved_heads(c, tensor.module);
    std::span<const std::byte> bytes = tensor.bytes;
    if (heads > 0 || (norm && c.norm_plus_one)) {
      auto& copy = changed.emplace_back(tensor.bytes);
      interleave(copy, tensor.shape[0], heads);
      if (norm && c.norm_plus_one) add_one(copy);
      bytes = copy;
    }
    out.push_back({gguf_tensor_name(c, tensor.module, tensor.layer, tensor.kind.c_str()), tensor.type, tensor.shape, bytes});
  }
  const auto factors = c.rope.scaling == "llama3" ? rope_factors(c) : std::vector<float>();
  if (!factors.empty()) out.push_back({"rope_freqs.weight", DType::kF32, {static_cast<int64_t>(factors.size())}, std::as_bytes(std::span(factors))});
  return formats::write_gguf(path, metadata, out);
}

}  // namespace deepseek::models
