#include "engine/compress_plan.h"

#include <algorithm>
#include <limits>

namespace deepseek::engine {
namespace {

using formats::DType;
using Input = FusedModel::Input;

// llama.cpp spends six bits on values and down projections of the first and last eighth of layers, and of every third between.
bool more_bits(int64_t layer, int64_t layers) { return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2; }

DType wanted(const std::string& format, const MatrixPlace& place, int64_t layers) {
  if (format == "bf16") return DType::kBF16;
  if (format == "int4") return DType::kQ4_0;
  if (format == "int8" || format == "q8_0") return DType::kQ8_0;
  const bool careful = place.layer < 0 || ((place.module == "self_attn.v_proj" || place.module == "mlp.down_proj") && more_bits(place.layer, layers));
  return careful ? DType::kQ6_K : DType::kQ4_K;
}

}  // namespace

std::string MatrixPlace::name() const { return layer < 0 ? module : fmt::format("layers.{}.{}", layer, module); }

uint64_t bytes_in(const MatrixPlace& place, DType type) {
  const auto block = formats::block_size(type);
  return static_cast<uint64_t>(place.rows * (place.columns / block.elements) * block.bytes);
}

bool fits(const MatrixPlace& place, DType type) { return place.columns % formats::block_size(type).elements == 0; }

DType filled(const MatrixPlace& place, DType type) { return fits(place, type) ? type : DType::kBF16; }

base::Result<std::vector<MatrixPlace>> matrix_places(const models::DecoderCheckpoint& checkpoint) {
  const auto& c = checkpoint.config();
  std::vector<MatrixPlace> places;
  base::Status status;
  const auto add = [&](MatrixPlace place) {
    auto found = place.layer < 0 ? checkpoint.top(place.module, {place.rows, place.columns})
                                 : checkpoint.layer(place.layer, place.module, {place.rows, place.columns});
    if (!found && status) status = base::pass(found);
    place.info = found ? *found : nullptr;
    place.heads = checkpoint.interleaved_heads(place.module);
    places.push_back(std::move(place));
  };
  add({"embed_tokens", -1, Input::kHead, 0, c.vocab_size, c.hidden_size});
  if (!c.tie_word_embeddings) add({"lm_head", -1, Input::kHead, 0, c.vocab_size, c.hidden_size});
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const int attention = static_cast<int>(1 + 2 * i), feed_forward = attention + 1;
    add({"self_attn.q_proj", i, Input::kAttention, attention, q, c.hidden_size});
    add({"self_attn.k_proj", i, Input::kAttention, attention, kv, c.hidden_size});
    add({"self_attn.v_proj", i, Input::kAttention, attention, kv, c.hidden_size});
    add({"self_attn.o_proj", i, Input::kOutput, attention, c.hidden_size, q});
    add({"mlp.gate_proj", i, Input::kFeedForward, feed_forward, c.intermediate_size, c.hidden_size});
    add({"mlp.up_proj", i, Input::kFeedForward, feed_forward, c.intermediate_size, c.hidden_size});
    add({"mlp.down_proj", i, Input::kDown, feed_forward, c.hidden_size, c.intermediate_size});
  }
  if (!status) return base::pass(status);
  return places;
}

std::vector<DType> types_for(const std::string& format, const std::vector<MatrixPlace>& places) {
  int64_t layers = 0;
  for (const auto& place : places) layers = std::max(layers, place.layer + 1);
  std::vector<DType> types;
  for (const auto& place : places) {
    DType type = wanted(format, place, layers);
    if (!fits(place, type)) type = type == DType::kQ6_K ? DType::kQ8_0 : type == DType::kQ4_K ? DType::kQ5_0 : type;
    types.push_back(filled(place, type));
  }
  return types;
}

std::vector<size_t> choose_candidates(const std::vector<std::vector<Candidate>>& groups, double max_kl) {
  std::vector<size_t> chosen;
  double kl = 0;
  for (const auto& candidates : groups) {
    const auto smallest = std::min_element(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return std::pair(a.bytes, a.kl) < std::pair(b.bytes, b.kl); });
    chosen.push_back(static_cast<size_t>(smallest - candidates.begin()));
    kl += smallest->kl;
  }
  while (kl > max_kl) {
    double best = 0;
    size_t group = groups.size(), step = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      const Candidate& now = groups[g][chosen[g]];
      for (size_t i = 0; i < groups[g].size(); ++i) {
        const Candidate& next = groups[g][i];
        if (next.bytes < now.bytes || next.kl >= now.kl) continue;
        const double gain = (now.kl - next.kl) / static_cast<double>(std::max<uint64_t>(next.bytes - now.bytes, 1));
        if (gain > best) {
          best = gain;
          group = g;
          step = i;
        }
      }
    }
    if (group == groups.size()) break;
    kl -= groups[group][chosen[group]].kl - groups[group][step].kl;
    chosen[group] = step;
  }
  // A late large step may have made early small ones needless.
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t i = 0; i < groups[g].size(); ++i) {
      const Candidate &now = groups[g][chosen[g]], &next = groups[g][i];
      if (next.bytes >= now.bytes || kl - now.kl + next.kl > max_kl) continue;
      kl += next.kl - now.kl;
      chosen[g] = i;
    }
  }
  return chosen;
}

}  // namespace deepseek::engine
