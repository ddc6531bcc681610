#include "models/bert/encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/relu.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nn/functional.h"

namespace deepseek::models {
namespace {

using base::Result;

constexpr int64_t kBatchTokens = 4096;  // their widest activations stay below 100 MB in a model of BERT's base size

// Texts as tokens, and the order in which they are computed.
struct Work {
  std::vector<std::vector<int32_t>> tokens;  // by place in the input
  std::vector<size_t> order;                 // shortest first

  // From `begin` of the order on: as many as a batch holds, at least one.
  [[nodiscard]] size_t batch_end(size_t begin) const {
    int64_t size = 0;
    size_t end = begin;
    while (end < order.size() && (end == begin || size + length(end) <= kBatchTokens)) size += length(end++);
    return end;
  }
  [[nodiscard]] PackedSequences packed(size_t begin, size_t end) const {
    std::vector<std::vector<int32_t>> sequences;
    for (size_t i = begin; i < end; ++i) sequences.push_back(tokens[order[i]]);
    return pack_sequences(sequences);
  }

 private:
  [[nodiscard]] int64_t length(size_t i) const { return static_cast<int64_t>(tokens[order[i]].size()); }
};

Result<Work> prepare(const Encoder& encoder, std::span<const std::string> texts) {
  Work work;
  for (const auto& text : texts) {
    work.tokens.push_back(encoder.tokens(text));
    if (work.tokens.back().empty()) return base::fail("text {} of {} has no token that the model could read", work.tokens.size(), texts.size());
  }
  work.order.resize(texts.size());
  std::iota(work.order.begin(), work.order.end(), size_t{0});
  std::stable_sort(work.order.begin(), work.order.end(), [&](size_t a, size_t b) { return work.tokens[a].size() < work.tokens[b].size(); });
  return work;
}

// Where each token stands in its sequence, counted as RoBERTa does where the configuration asks for that.
at::Tensor positions_of(const PackedSequences& batch, const BertConfig& config) {
  at::Tensor positions = at::empty_like(batch.tokens);
  const auto* ids = batch.tokens.const_data_ptr<int64_t>();
  auto* out = positions.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    int64_t next = config.positions_follow_padding() ? config.pad_token_id + 1 : 0;
    for (int64_t t = batch.offsets[i]; t < batch.offsets[i + 1]; ++t) {
      out[t] = config.positions_follow_padding() && ids[t] == config.pad_token_id ? config.pad_token_id : next++;
    }
  }
  return positions;
}

}  // namespace

Encoder::Encoder(BertConfig config, SentenceConfig sentence, formats::Tokenizer tokenizer, BertWeights weights)
    : config_(std::move(config)), sentence_(std::move(sentence)), tokenizer_(std::move(tokenizer)), weights_(std::move(weights)) {}

std::vector<int32_t> Encoder::tokens(const std::string& text) const {
  return tokenizer_.encode_truncated(sentence_.prompt + text, static_cast<size_t>(max_tokens()));
}

Result<at::Tensor> Encoder::embed(std::span<const std::string> texts) const {
  auto work = prepare(*this, texts);
  if (!work) return base::pass(work);
  at::NoGradGuard no_grad;
  at::Tensor out = at::empty({static_cast<int64_t>(texts.size()), dimension()}, at::kFloat);
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    end = work->batch_end(begin);
    const PackedSequences batch = work->packed(begin, end);
    const at::Tensor vectors = pooled(hidden(batch), batch.offsets, sentence_).cpu();
    for (size_t i = begin; i < end; ++i) out[static_cast<int64_t>(work->order[i])].copy_(vectors[static_cast<int64_t>(i - begin)]);
  }
  return out;
}

Result<std::vector<at::Tensor>> Encoder::embed_tokens(std::span<const std::string> texts) const {
  auto work = prepare(*this, texts);
  if (!work) return base::pass(work);
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> out(texts.size());
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    end = work->batch_end(begin);
    const PackedSequences batch = work->packed(begin, end);
    const at::Tensor states = hidden(batch).to(at::kFloat).cpu();
    for (size_t i = begin; i < end; ++i) {
      const int64_t at = batch.offsets[i - begin];
      out[work->order[i]] = states.narrow(0, at, batch.offsets[i - begin + 1] - at).clone();
    }
  }
  return out;
}

at::Tensor Encoder::hidden(const PackedSequences& batch) const {
  TORCH_CHECK(batch.tokens.numel() > 0, "the model was given no tokens");
  TORCH_CHECK(batch.tokens.min().item<int64_t>() >= 0 && batch.tokens.max().item<int64_t>() < config_.vocab_size,
              "a token id is outside the vocabulary of ", config_.vocab_size);
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const int64_t length = batch.offsets[i + 1] - batch.offsets[i];
    TORCH_CHECK(length <= config_.longest(), "a sequence has ", length, " tokens, the model reads at most ", config_.longest());
  }
  at::NoGradGuard no_grad;
  at::Tensor x = embedded(batch);
  for (const BertLayer& each : weights_.layers) x = layer(each, x, batch.offsets);
  return x;
}

at::Tensor Encoder::embedded(const PackedSequences& batch) const {
  const auto device = weights_.words.device();
  const at::Tensor words = at::index_select(weights_.words, 0, batch.tokens.to(device));
  const at::Tensor positions = at::index_select(weights_.positions, 0, positions_of(batch, config_).to(device));
  return normed(words + weights_.types[0] + positions, weights_.embedding_norm);  // a single text is of type 0 throughout
}

at::Tensor Encoder::layer(const BertLayer& layer, const at::Tensor& x, const std::vector<int64_t>& offsets) const {
  const at::Tensor qkv = layer.qkv.forward(x).view({x.size(0), 3, config_.num_heads, config_.head_dim()});
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim()));
  const at::Tensor mixed = nn::full_attention(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), offsets, scale);
  const at::Tensor attended = normed(layer.attention_output.forward(mixed) + x, layer.attention_norm);
  return normed(layer.output.forward(activated(layer.intermediate.forward(attended))) + attended, layer.output_norm);
}

at::Tensor Encoder::activated(const at::Tensor& x) const {
  if (config_.activation == "relu") return at::relu(x);
  return at::gelu(x, config_.activation == "gelu_tanh" ? "tanh" : "none");
}

at::Tensor Encoder::normed(const at::Tensor& x, const LayerNorm& norm) const {
  return at::layer_norm(x, {config_.hidden_size}, norm.weight, norm.bias, config_.layer_norm_eps);
}

}  // namespace deepseek::models
