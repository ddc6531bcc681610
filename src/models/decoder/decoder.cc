#include "models/decoder/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "nn/functional.h"

namespace deepseek::models {
struct Decoder::Pass {
  const PackedSequences& batch;
  at::Tensor positions;  // [T] i64
  KvCache* cache;
};

void KvCache::truncate(int64_t length) { length_ = std::clamp<int64_t>(length, 0, length_); }

Decoder::Decoder(DecoderConfig config, at::Tensor embedding, at::Tensor head, at::Tensor final_norm, std::vector<DecoderLayer> layers)
    : config_(std::move(config)), embedding_(std::move(embedding)), head_(std::move(head)), final_norm_(std::move(final_norm)),
      layers_(std::move(layers)),
      inverse_frequencies_(float_tensor(rope_frequencies(config_.rope, config_.head_dim)).to(embedding_.device())),
      inverse_frequencies_sliding_(float_tensor(rope_frequencies(config_.rope_sliding, config_.head_dim)).to(embedding_.device())) {}

at::Tensor Decoder::hidden(const PackedSequences& batch, bool checkpoint) const { return forward(batch, nullptr, checkpoint); }

at::Tensor Decoder::logits(const at::Tensor& hidden_rows) const {
  at::NoGradGuard no_grad;
  at::Tensor logits = at::linear(hidden_rows, head_).to(at::kFloat);
  if (config_.final_softcap > 0) logits = (logits / config_.final_softcap).tanh() * config_.final_softcap;
  return logits;
}

at::Tensor Decoder::step(const std::vector<int32_t>& tokens, KvCache& cache) const {
  at::NoGradGuard no_grad;
  const at::Tensor x = forward(pack_sequences({tokens}), &cache, false);
  return logits(x.narrow(0, x.size(0) - 1, 1)).squeeze(0);
}

at::Tensor Decoder::step_all(const std::vector<int32_t>& tokens, KvCache& cache) const {
  at::NoGradGuard no_grad;
  return logits(forward(pack_sequences({tokens}), &cache, false));
}

at::Tensor Decoder::forward(const PackedSequences& batch, KvCache* cache, bool checkpoint) const {
  TORCH_CHECK(batch.tokens.numel() > 0, "the model was given no tokens");
  const auto device = embedding_.device();
  const int64_t begin = cache != nullptr ? cache->length_ : 0;
  at::Tensor positions = at::empty({batch.tokens.numel()}, at::kLong);
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    for (int64_t t = batch.offsets[i]; t < batch.offsets[i + 1]; ++t) positions.mutable_data_ptr<int64_t>()[t] = begin + t - batch.offsets[i];
  }
  TORCH_CHECK(batch.tokens.min().item<int64_t>() >= 0 && batch.tokens.max().item<int64_t>() < config_.vocab_size,
              "a token id is outside the vocabulary of ", config_.vocab_size);
  const Pass pass{batch, positions.to(device), cache};
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
      x = nn::checkpoint([this, i, batch, positions = pass.positions](const at::Tensor& input) {
        return layer(i, input, Pass{batch, positions, nullptr});
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
  if (pass.cache == nullptr) return layer.o.forward(nn::packed_attention(q, k, v, pass.batch.offsets, options));

  auto& cached = pass.cache->layers_[index];
  const int64_t before = pass.cache->length_, after = before + n;
  if (!cached.k.defined() || cached.k.size(0) < after) {
    const int64_t capacity = std::max<int64_t>(after, 2 * before);
    const auto grow = [&](const at::Tensor& old, const at::Tensor& like) {
      at::Tensor grown = at::empty({capacity, config_.num_kv_heads, dim}, like.options());
      if (before > 0) grown.narrow(0, 0, before).copy_(old.narrow(0, 0, before));
      return grown;
    };
    cached.k = grow(cached.k, k);
    cached.v = grow(cached.v, v);
  }
  cached.k.narrow(0, before, n).copy_(k);
  cached.v.narrow(0, before, n).copy_(v);
  return layer.o.forward(nn::cached_attention(q, cached.k.narrow(0, 0, after), cached.v.narrow(0, 0, after), options));
}

}  // namespace deepseek::models
