#include "models/deepseek/deepseek.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/sparse_attention/indexed_attention.h"
#include "models/deepseek/experts.h"
#include "nn/functional.h"

namespace deepseek::models {
namespace {

constexpr double kLatentEps = 1e-6;  // of the norms inside attention, whatever rms_norm_eps is
constexpr int64_t kScores = int64_t{1} << 24;  // of a block of queries in the absorbed form: 64 MiB

at::Tensor padded(const at::Tensor& x, int64_t width) { return x.size(-1) == width ? x : at::constant_pad_nd(x, {0, width - x.size(-1)}); }

}  // namespace

void DeepseekCache::truncate(int64_t length) { length_ = std::clamp<int64_t>(length, 0, length_); }

Deepseek::Deepseek(DeepseekConfig config, DeepseekWeights weights) : config_(std::move(config)), weights_(std::move(weights)) {
  frequencies_ = float_tensor(rope_frequencies(config_.common.rope, config_.qk_rope_head_dim)).to(weights_.embedding.device());
  reads_ = own_reads();
}

base::Status Deepseek::set_attention(const std::string& name) {
  if (!config_.has_indexer()) {
    if (name == "auto" || name == "dense") return {};
    return base::refuse("--attention {}: this model has no indexer (DeepSeek-V3.2 has one); use auto or dense", name);
  }
  auto reads = indexer_reads_named(name, config_.index_top_k);
  if (!reads) return base::pass(reads);
  reads_ = *reads;
  return {};
}

at::Tensor Deepseek::hidden(const PackedSequences& batch) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const int64_t *ids = batch.tokens.const_data_ptr<int64_t>();
    DeepseekCache cache;
    parts.push_back(forward({ids + batch.offsets[i], ids + batch.offsets[i + 1]}, cache));
  }
  return at::cat(parts, 0);
}

at::Tensor Deepseek::step(const std::vector<int32_t>& tokens, DeepseekCache& cache) const {
  at::NoGradGuard no_grad;
  const at::Tensor x = forward({tokens.begin(), tokens.end()}, cache);
  return at::linear(x.narrow(0, x.size(0) - 1, 1), weights_.head).to(at::kFloat).squeeze(0);
}

at::Tensor Deepseek::step_all(const std::vector<int32_t>& tokens, DeepseekCache& cache) const {
  at::NoGradGuard no_grad;
  return at::linear(forward({tokens.begin(), tokens.end()}, cache), weights_.head).to(at::kFloat);
}

at::Tensor Deepseek::forward(const std::vector<int64_t>& tokens, DeepseekCache& cache) const {
  const DecoderConfig& c = config_.common;
  TORCH_CHECK(!tokens.empty(), "the model was given no tokens");
  for (const int64_t id : tokens) TORCH_CHECK(id >= 0 && id < c.vocab_size, "token ", id, " is outside the vocabulary of ", c.vocab_size);
  const auto device = weights_.embedding.device();
  const int64_t before = cache.length_, n = static_cast<int64_t>(tokens.size());
  const at::Tensor positions = at::arange(before, before + n, at::TensorOptions().dtype(at::kLong).device(device));
  cache.layers_.resize(weights_.layers.size());
  at::Tensor x = at::index_select(weights_.embedding, 0, index_tensor(tokens).to(device));
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const DeepseekLayer& layer = weights_.layers[i];
    x = x + attention(layer.attention, nn::rms_norm(x, layer.input_norm, c.rms_norm_eps, false), positions, cache.layers_[i], before);
    const at::Tensor y = nn::rms_norm(x, layer.post_attention_norm, c.rms_norm_eps, false);
    if (layer.dense.gate.defined()) x = x + feed_forward(layer.dense, y);
    if (layer.experts) x = x + mixture(config_, *layer.experts, y);
  }
  cache.length_ += n;
  return nn::rms_norm(x, weights_.final_norm, c.rms_norm_eps, false);
}

at::Tensor Deepseek::rotated(const at::Tensor& x, const at::Tensor& positions, bool interleaved) const {
  const at::Tensor halves = interleaved ? x.unflatten(-1, {x.size(-1) / 2, 2}).transpose(-1, -2).flatten(-2) : x;
  const at::Tensor turned = nn::rope(halves.contiguous(), positions, frequencies_);
  return config_.common.rope.attention_factor == 1.0 ? turned : turned * config_.common.rope.attention_factor;
}

// x: [n, hidden] -> the same.
at::Tensor Deepseek::attention(const DeepseekAttention& w, const at::Tensor& x, const at::Tensor& positions, DeepseekCache::Layer& cached, int64_t before) const {
  const int64_t n = x.size(0), nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim, rank = config_.kv_lora_rank;
  const bool by_latent = w.q_a_proj.defined();
  const at::Tensor query_latent = by_latent ? nn::rms_norm(at::linear(x, w.q_a_proj), w.q_a_norm, kLatentEps, false) : at::Tensor();
  const at::Tensor q_plain = (by_latent ? at::linear(query_latent, w.q_b_proj) : at::linear(x, w.q_proj)).view({n, config_.common.num_heads, nope + rope});
  const at::Tensor q = at::cat({q_plain.narrow(2, 0, nope), rotated(q_plain.narrow(2, nope, rope), positions, config_.rope_interleaved)}, 2);
  const at::Tensor kv = at::linear(x, w.kv_a_proj);
  const at::Tensor key = rotated(kv.narrow(1, rank, rope).unsqueeze(1), positions, config_.rope_interleaved).squeeze(1);
  const at::Tensor latents = append_rows(cached.latents, at::cat({nn::rms_norm(kv.narrow(1, 0, rank).contiguous(), w.kv_a_norm, kLatentEps, false), key}, 1), before);
  at::Tensor index_keys;
  if (config_.has_indexer()) {
    // Kept while attention is dense too: a later step may be sparse.
    const auto& i = w.indexer;
    const at::Tensor k = at::layer_norm(at::linear(x, i.wk), {config_.index_dim}, i.k_norm, i.k_norm_bias, kLatentEps);
    const at::Tensor turned = rotated(k.narrow(1, 0, rope).unsqueeze(1), positions, false).squeeze(1);
    index_keys = append_rows(cached.index_keys, at::cat({turned, k.narrow(1, rope, config_.index_dim - rope)}, 1), before);
  }
  // Up to as many positions as would be chosen, a query reads all.
  const int64_t dense = reads_.sparse ? std::clamp<int64_t>(reads_.all_below() - before, 0, n) : n;
  std::vector<at::Tensor> parts;
  if (dense > 0) parts.push_back(attend(w, q.narrow(0, 0, dense), latents.narrow(0, 0, before + dense)));
  keys_.see(before, n);
  keys_.all(before, dense);
  if (dense < n) {
    const at::Tensor lists = named_keys(w.indexer, x, query_latent, positions, index_keys, dense);
    keys_.read += (lists >= 0).sum().item<int64_t>();
    parts.push_back(attend_absorbed(w, q.narrow(0, dense, n - dense), latents, lists));
  }
  return at::linear(parts.size() == 1 ? parts[0] : at::cat(parts, 0), w.o_proj);
}

// Keys for rows [first, n) of x: [n - first, count] i32.
at::Tensor Deepseek::named_keys(const DeepseekIndexer& w, const at::Tensor& x, const at::Tensor& query_latent, const at::Tensor& positions, const at::Tensor& index_keys,
                                int64_t first) const {
  const int64_t n = x.size(0) - first, rope = config_.qk_rope_head_dim, dim = config_.index_dim;
  const at::Tensor q = at::linear(query_latent.narrow(0, first, n), w.wq_b).view({n, config_.index_heads, dim});
  const at::Tensor turned = rotated(q.narrow(2, 0, rope), positions.narrow(0, first, n), false);  // the indexer's pairs are halves
  const double scale = 1 / std::sqrt(static_cast<double>(config_.index_heads * dim));
  const at::Tensor weights = at::linear(x.narrow(0, first, n).to(at::kFloat), w.weights_proj) * scale;
  return kernels::select_keys(at::cat({turned, q.narrow(2, rope, dim - rope)}, 2).unsqueeze(0), index_keys.unsqueeze(0), weights.unsqueeze(0), reads_.indexer).squeeze(0);
}

// q: [n, heads, dim], the last rows of a sequence with these latents [S, rank + rope] -> [n, heads * value_dim]. Causal, all keys.
at::Tensor Deepseek::attend(const DeepseekAttention& w, const at::Tensor& q, const at::Tensor& latents) const {
  const int64_t heads = config_.common.num_heads, nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim, rank = config_.kv_lora_rank, value = config_.v_head_dim;
  // Keys and values of S latents cost S rank (nope + value) for all queries; without them each query pays 2 rank - nope - value more a key.
  if (q.size(0) * (2 * rank - nope - value) < rank * (nope + value)) return attend_absorbed(w, q, latents, {});
  const at::Tensor kv = at::linear(latents.narrow(1, 0, rank), w.kv_b_proj).view({latents.size(0), heads, nope + value});
  const at::Tensor shared = latents.narrow(1, rank, rope).unsqueeze(1).expand({latents.size(0), heads, rope});
  const int64_t width = std::max(nope + rope, value);  // one width for all, which libtorch's attention without a matrix of scores needs
  const at::Tensor k = padded(at::cat({kv.narrow(2, 0, nope), shared}, 2), width), v = padded(kv.narrow(2, nope, value), width);
  const at::Tensor out = nn::cached_attention(padded(q, width), k, v, {.scale = config_.attention_scale});
  return out.view({q.size(0), heads, width}).narrow(2, 0, value).reshape({q.size(0), heads * value});
}

// As attend(), on the latents themselves: kv_b_proj moves to the queries and to the result. lists: keys of each query, or undefined for all.
at::Tensor Deepseek::attend_absorbed(const DeepseekAttention& w, const at::Tensor& q, const at::Tensor& latents, const at::Tensor& lists) const {
  const int64_t n = q.size(0), keys = latents.size(0), heads = config_.common.num_heads, nope = config_.qk_nope_head_dim, rank = config_.kv_lora_rank;
  const at::Tensor up = w.kv_b_proj.view({heads, nope + config_.v_head_dim, rank}), by_head = q.transpose(0, 1);
  const at::Tensor absorbed = at::cat({at::bmm(by_head.narrow(2, 0, nope), up.narrow(1, 0, nope)), by_head.narrow(2, nope, config_.qk_rope_head_dim)}, 2);
  const at::Tensor values = latents.narrow(1, 0, rank);
  at::Tensor out;  // [heads, n, rank]
  if (lists.defined()) {
    const auto one_head = [](const at::Tensor& x) { return x.unsqueeze(0).unsqueeze(0); };
    out = kernels::indexed_attention(absorbed.unsqueeze(0), one_head(latents), one_head(values), lists.unsqueeze(0), config_.attention_scale).out.squeeze(0);
  } else {
    std::vector<at::Tensor> parts;
    const int64_t step = std::max<int64_t>(1, kScores / (heads * keys));
    for (int64_t first = 0; first < n; first += step) {
      const int64_t count = std::min(step, n - first);
      at::Tensor scores = at::matmul(absorbed.narrow(1, first, count), latents.t()).to(at::kFloat) * config_.attention_scale;
      if (n > 1) {
        const at::Tensor key = at::arange(keys, q.options().dtype(at::kLong)), query = key.narrow(0, keys - n + first, count).unsqueeze(1);
        scores = scores.masked_fill(key > query, -std::numeric_limits<float>::infinity());
      }
      parts.push_back(at::matmul(at::softmax(scores, -1).to(values.scalar_type()), values));
    }
    out = parts.size() == 1 ? parts[0] : at::cat(parts, 1);
  }
  return at::bmm(out, up.narrow(1, nope, config_.v_head_dim).transpose(1, 2)).transpose(0, 1).reshape({n, heads * config_.v_head_dim});
}

}  // namespace deepseek::models
