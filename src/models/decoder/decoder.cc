#include "models/decoder/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "kernels/sparse_attention/indexed_attention.h"
#include "nn/functional.h"
#include "nn/sparse_attention.h"

namespace deepseek::models {
struct Decoder::Pass {
  const PackedSequences& batch;
  at::Tensor positions;  // [T] i64
  KvCache* cache;
  const IndexerWatch* watch;
};
namespace {

// [n, heads, dim] -> [1, heads, n, dim] and back to [n, heads * dim].
at::Tensor by_head(const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); }
at::Tensor by_row(const at::Tensor& x) { return x.squeeze(0).transpose(0, 1).flatten(1); }

}  // namespace

void KvCache::truncate(int64_t length) { length_ = std::clamp<int64_t>(length, 0, length_); }

Decoder::Decoder(DecoderConfig config, at::Tensor embedding, at::Tensor head, at::Tensor final_norm, std::vector<DecoderLayer> layers)
    : config_(std::move(config)), embedding_(std::move(embedding)), head_(std::move(head)), final_norm_(std::move(final_norm)),
      layers_(std::move(layers)),
      inverse_frequencies_(float_tensor(rope_frequencies(config_.rope, config_.head_dim)).to(embedding_.device())),
      inverse_frequencies_sliding_(float_tensor(rope_frequencies(config_.rope_sliding, config_.head_dim)).to(embedding_.device())) {}

at::Tensor Decoder::hidden(const PackedSequences& batch, bool checkpoint, const IndexerWatch* watch) const {
  return forward(batch, nullptr, checkpoint, watch);
}

bool Decoder::has_indexer() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const DecoderLayer& layer) { return layer.indexer.has_value(); });
}

at::Tensor Decoder::indexer_frequencies(const nn::LightningIndexer& indexer) const {
  return float_tensor(rope_frequencies(config_.rope, indexer.rope_dim)).to(embedding_.device());
}

at::Tensor Decoder::logits(const at::Tensor& hidden_rows) const {
  at::NoGradGuard no_grad;
  at::Tensor logits = at::linear(hidden_rows, head_).to(at::kFloat);
  if (config_.final_softcap > 0) logits = (logits / config_.final_softcap).tanh() * config_.final_softcap;
  return logits;
}

at::Tensor Decoder::step(const std::vector<int32_t>& tokens, KvCache& cache) const {
  at::NoGradGuard no_grad;
  const at::Tensor x = forward(pack_sequences({tokens}), &cache, false, nullptr);
  return logits(x.narrow(0, x.size(0) - 1, 1)).squeeze(0);
}

at::Tensor Decoder::step_all(const std::vector<int32_t>& tokens, KvCache& cache) const {
  at::NoGradGuard no_grad;
  return logits(forward(pack_sequences({tokens}), &cache, false, nullptr));
}

at::Tensor Decoder::forward(const PackedSequences& batch, KvCache* cache, bool checkpoint, const IndexerWatch* watch) const {
  TORCH_CHECK(batch.tokens.numel() > 0, "the model was given no tokens");
  const auto device = embedding_.device();
  const int64_t begin = cache != nullptr ? cache->length_ : 0;
  at::Tensor positions = at::empty({batch.tokens.numel()}, at::kLong);
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    for (int64_t t = batch.offsets[i]; t < batch.offsets[i + 1]; ++t) positions.mutable_data_ptr<int64_t>()[t] = begin + t - batch.offsets[i];
  }
  TORCH_CHECK(batch.tokens.min().item<int64_t>() >= 0 && batch.tokens.max().item<int64_t>() < config_.vocab_size,
              "a token id is outside the vocabulary of ", config_.vocab_size);
  const Pass pass{batch, positions.to(device), cache, watch};
  if (cache != nullptr) cache->layers_.resize(layers_.size());
  at::Tensor x = at::index_select(embedding_, 0, batch.tokens.to(device));
  if (config_.embedding_scale != 1.0) {
    // Transformers rounds the factor to the type of the embedding first.
    const double scale = at::full({}, config_.embedding_scale, x.options()).item<double>();
    x = x * scale;
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (checkpoint) {
      // The pass is copied: the second run happens after this function has returned.
      x = nn::checkpoint([this, i, batch, positions = pass.positions, watch](const at::Tensor& input) {
        return layer(i, input, Pass{batch, positions, nullptr, at::GradMode::is_enabled() ? watch : nullptr});  // the second run is watched
      }, x);
    } else {
      x = layer(i, x, pass);
    }
  }
  if (cache != nullptr) cache->length_ += batch.tokens.numel();
  return nn::rms_norm(x, final_norm_, config_.rms_norm_eps, config_.norm_plus_one);
}

at::Tensor Decoder::layer(size_t index, const at::Tensor& x, const Pass& pass) const {
  const DecoderLayer& layer = layers_[index];
  const auto norm = [&](const at::Tensor& input, const at::Tensor& weight) {
    return nn::rms_norm(input, weight, config_.rms_norm_eps, config_.norm_plus_one);
  };
  at::Tensor attended = attention(index, norm(x, layer.input_norm), pass);
  if (config_.post_norms) attended = norm(attended, layer.post_attention_norm);
  const at::Tensor residual = x + attended;
  const at::Tensor input = norm(residual, config_.post_norms ? layer.pre_feedforward_norm : layer.post_attention_norm);
  at::Tensor output = layer.down.forward(nn::glu(layer.gate.forward(input), layer.up.forward(input), config_.gelu));
  if (config_.post_norms) output = norm(output, layer.post_feedforward_norm);
  return residual + output;
}

at::Tensor Decoder::attention(size_t index, const at::Tensor& x, const Pass& pass) const {
  const DecoderLayer& layer = layers_[index];
  const int64_t n = x.size(0), dim = config_.head_dim;
  const bool sliding = config_.sliding[index];
  const auto& frequencies = sliding ? inverse_frequencies_sliding_ : inverse_frequencies_;
  at::Tensor q = layer.q.forward(x).view({n, config_.num_heads, dim});
  at::Tensor k = layer.k.forward(x).view({n, config_.num_kv_heads, dim});
  at::Tensor v = layer.v.forward(x).view({n, config_.num_kv_heads, dim});
  if (config_.qk_norm) {
    q = nn::rms_norm(q, layer.q_norm, config_.rms_norm_eps, config_.norm_plus_one);
    k = nn::rms_norm(k, layer.k_norm, config_.rms_norm_eps, config_.norm_plus_one);
  }
  q = nn::rope(q, pass.positions, frequencies);
  k = nn::rope(k, pass.positions, frequencies);
  const nn::AttentionOptions options{config_.attention_scale, config_.attention_softcap, sliding ? config_.sliding_window : 0};
  const bool indexed = layer.indexer && (reads_.sparse || pass.watch != nullptr || pass.cache != nullptr);
  if (pass.cache == nullptr) return layer.o.forward(indexed ? indexed_sequences(index, x, q, k, v, pass) : nn::packed_attention(q, k, v, pass.batch.offsets, options));

  auto& cached = pass.cache->layers_[index];
  const at::Tensor all_k = append_rows(cached.k, k, pass.cache->length_), all_v = append_rows(cached.v, v, pass.cache->length_);
  return layer.o.forward(indexed ? indexed_step(index, x, q, all_k, all_v, pass) : nn::cached_attention(q, all_k, all_v, options));
}

// Rows [first, n) of a sequence whose keys are all index_k: [1, n - first, count].
at::Tensor Decoder::lists_of(const nn::LightningIndexer::Projected& rows, const at::Tensor& index_k, int64_t first) const {
  const auto own = [&](const at::Tensor& x) { return x.detach().narrow(0, first, x.size(0) - first).unsqueeze(0); };
  return kernels::select_keys(own(rows.q), index_k.detach().unsqueeze(0), own(rows.weights), reads_.indexer);
}

int64_t Decoder::rows_that_read_all(int64_t before, int64_t n) const { return reads_.sparse ? std::clamp<int64_t>(reads_.all_below() - before, 0, n) : n; }

void Decoder::count(int64_t before, int64_t n, int64_t dense, const at::Tensor& lists) const {
  keys_.see(before, n);
  keys_.all(before, dense);
  if (lists.defined()) keys_.read += (lists >= 0).sum().item<int64_t>();
}

at::Tensor Decoder::indexed_sequences(size_t index, const at::Tensor& x, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Pass& pass) const {
  const nn::LightningIndexer& indexer = *layers_[index].indexer;
  const at::Tensor frequencies = indexer_frequencies(indexer);
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < pass.batch.offsets.size(); ++i) {
    const int64_t first = pass.batch.offsets[i], n = pass.batch.offsets[i + 1] - first, dense = rows_that_read_all(0, n), listed = n - dense;
    const auto own = [&](const at::Tensor& rows) { return rows.narrow(0, first, n); };
    at::Tensor lists, all_lists;
    if (listed > 0) {
      at::NoGradGuard no_grad;
      const auto rows = indexer.project(own(x), own(pass.positions), frequencies);
      if (pass.watch != nullptr) all_lists = lists_of(rows, rows.k, 0);
      lists = all_lists.defined() ? all_lists.narrow(1, dense, listed) : lists_of(rows, rows.k, dense);
    }
    count(0, n, dense, lists);
    if (pass.watch != nullptr) {
      (*pass.watch)({index, i, own(x).detach(), own(pass.positions), by_head(own(q).detach()), by_head(own(k).detach()), all_lists});
    }
    const auto head = [&](const at::Tensor& rows) { return rows.narrow(0, first, dense); };
    if (dense > 0) parts.push_back(nn::packed_attention(head(q), head(k), head(v), {0, dense}, {.scale = config_.attention_scale}));
    if (listed > 0) parts.push_back(by_row(nn::indexed_attention(by_head(q.narrow(0, first + dense, listed)), by_head(own(k)), by_head(own(v)), lists, config_.attention_scale)));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
}

at::Tensor Decoder::indexed_step(size_t index, const at::Tensor& x, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Pass& pass) const {
  const nn::LightningIndexer& indexer = *layers_[index].indexer;
  const int64_t before = pass.cache->length_, n = q.size(0), dense = rows_that_read_all(before, n);
  // The indexer's keys are kept while all is read too: a later step may leave some out.
  const auto rows = indexer.project(x, pass.positions, indexer_frequencies(indexer));
  const at::Tensor index_k = append_rows(pass.cache->layers_[index].index_k, rows.k, before);
  std::vector<at::Tensor> parts;
  at::Tensor lists;
  if (dense > 0) parts.push_back(nn::cached_attention(q.narrow(0, 0, dense), k.narrow(0, 0, before + dense), v.narrow(0, 0, before + dense), {.scale = config_.attention_scale}));
  if (dense < n) {
    lists = lists_of(rows, index_k, dense);
    parts.push_back(by_row(kernels::indexed_attention(by_head(q.narrow(0, dense, n - dense)), by_head(k), by_head(v), lists, config_.attention_scale).out));
  }
  count(before, n, dense, lists);
  return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
}

}  // namespace deepseek::models
