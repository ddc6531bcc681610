// Random sequences in a pool, calls over them and exact attention in f64: what the tests of this folder share.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "hardware/cpu.h"
#include "kernels/paged_attention/emulated.h"
#include "kernels/paged_attention/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {

inline std::string never() { return ""; }
inline const AttentionKernel kEmulated{"emulated_amx", never, attend_emulated, estimate_portable, 1};

#if defined(__x86_64__)
inline std::string without_avx512_bf16() { return hardware::cpu().features.avx512_bf16 ? "" : "the processor has no AVX-512 BF16"; }
#endif

// Those of the list, that of AMX on emulated tiles for any number of queries, and both forms of AVX-512, of which the list has the faster.
inline std::vector<AttentionKernel> tested_kernels() {
  std::vector<AttentionKernel> all(attention_kernels().begin(), attention_kernels().end());
  all.push_back(kEmulated);
#if defined(__x86_64__)
  const auto avx512 = std::find_if(all.begin(), all.end(), [](const auto& kernel) { return kernel.name == std::string("avx512"); });
  const auto declines = avx512->declines;
  all.push_back({"avx512_wide", declines, attend_avx512_wide, estimate_avx512_wide});
  all.push_back({"avx512_bf16", without_avx512_bf16, attend_avx512_bf16, estimate_avx512_bf16});
#endif
  return all;
}

inline double rounded(double value) { return bf16_to_f32(f32_to_bf16(static_cast<float>(value))); }

// What the cache gives back of keys or values: in int8 the multiples of a bf16 scale for each 32 dimensions.
inline std::vector<float> kept(const std::vector<float>& values, int64_t dim, KvType type) {
  std::vector<float> out(values.size());
  for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(dim)) {
    for (int64_t d = 0; d < dim; ++d) {
      const float value = values[begin + static_cast<size_t>(d)];
      float largest = 0;
      for (int64_t e = d / 32 * 32; e < std::min(d / 32 * 32 + 32, dim); ++e) largest = std::max(largest, std::abs(values[begin + static_cast<size_t>(e)]));
      // Rounded up to bf16; the product is rounded to bf16 half away from zero.
      const float scale = bf16_to_f32(static_cast<uint16_t>((std::bit_cast<uint32_t>(largest / 127.0f) + 0xFFFFu) >> 16));
      const float back = std::nearbyint(value * (1.0f / scale)) * scale;
      out[begin + static_cast<size_t>(d)] =
          type == KvType::kBF16 ? static_cast<float>(rounded(value)) : bf16_to_f32(static_cast<uint16_t>((std::bit_cast<uint32_t>(back) + 0x8000u) >> 16));
    }
  }
  return out;
}

struct Sequence {
  std::vector<int32_t> pages;
  std::vector<float> keys, values;  // [length][kv_heads][dim]
  int64_t length = 0;
};

struct World {
  int64_t heads, kv_heads, dim;
  KvPool pool;
  std::mt19937 random{7};
  std::normal_distribution<float> normal;
  std::vector<Sequence> sequences;

  World(int64_t h, int64_t kv, int64_t d, KvType type = KvType::kBF16, int64_t pages = 200)
      : heads(h), kv_heads(kv), dim(d), pool(*KvPool::create(2, kv, d, pages, type, true)) {}

  std::vector<float> draw(int64_t n, float size) {
    std::vector<float> out(static_cast<size_t>(n));
    for (auto& v : out) v = size * normal(random);
    return out;
  }
  void add(int64_t length, int64_t layer = 1) {
    Sequence s{{}, draw(length * kv_heads * dim, 1.0f), draw(length * kv_heads * dim, 1.0f), length};
    for (int64_t t = 0; t < length; ++t) {
      if (t % kPageTokens == 0) s.pages.push_back(*pool.take());
      for (int64_t h = 0; h < kv_heads; ++h) {
        pool.store(layer, h, s.pages.back(), t % kPageTokens, &s.keys[static_cast<size_t>((t * kv_heads + h) * dim)], &s.values[static_cast<size_t>((t * kv_heads + h) * dim)]);
      }
    }
    std::vector<uint16_t> scratch(static_cast<size_t>(2 * kPageTokens * pool.width()));
    for (int64_t p = 0; p < length / kPageTokens; ++p) {
      for (int64_t h = 0; h < kv_heads; ++h) pool.summarise(layer, h, s.pages[static_cast<size_t>(p)], scratch.data());
    }
    s.keys = kept(s.keys, dim, pool.type());
    s.values = kept(s.values, dim, pool.type());
    sequences.push_back(std::move(s));
  }
};

struct Call {
  std::vector<int64_t> counts;  // of new positions, at the end of each sequence
  PagedAttentionOptions options;
  int threads = 1;
};

inline std::vector<AttentionSequence> views(const World& world, const Call& call) {
  std::vector<AttentionSequence> out;
  int64_t row = 0;
  for (size_t s = 0; s < call.counts.size(); ++s) {
    out.push_back({world.sequences[s].pages, world.sequences[s].length - call.counts[s], call.counts[s], row});
    row += call.counts[s];
  }
  return out;
}

inline std::vector<float> run(const AttentionKernel& kernel, const World& world, const Call& call, const std::vector<float>& q, TileCount* count = nullptr) {
  std::vector<float> out(q.size(), -777.0f);
  PagedAttention attention;
  attention.plan(views(world, call), world.pool, call.options, call.threads);
  for (int64_t i = attention.estimates(); i-- > 0;) attention.estimate(i, kernel, world.pool, 1, q.data());
  for (int64_t i = attention.choices(); i-- > 0;) attention.choose(i);
  TileCount all;
  for (int64_t i = attention.items(); i-- > 0;) all.add(attention.run(i, kernel, world.pool, 1, q.data(), out.data()));
  if (count != nullptr) *count = all;
  for (int64_t i = 0; i < attention.merges(); ++i) attention.merge(i, out.data());
  return out;
}

// Largest difference from exact attention, relative to the largest value that takes part.
inline double error(const World& world, const Call& call, const std::vector<float>& q, const std::vector<float>& got) {
  double worst = 0;
  const auto all = views(world, call);
  for (size_t n = 0; n < all.size(); ++n) {
    const Sequence& s = world.sequences[n];
    for (int64_t t = 0; t < all[n].count; ++t) {
      const int64_t position = all[n].begin + t, first = call.options.window > 0 ? std::max<int64_t>(0, position - call.options.window + 1) : 0;
      for (int64_t h = 0; h < world.heads; ++h) {
        const int64_t kv = h / (world.heads / world.kv_heads);
        const float* query = &q[static_cast<size_t>(((all[n].row + t) * world.heads + h) * world.dim)];
        std::vector<double> scores, out(static_cast<size_t>(world.dim));
        for (int64_t k = first; k <= position; ++k) {
          double score = 0;
          for (int64_t d = 0; d < world.dim; ++d) {
            score += rounded(query[d] * call.options.scale) * s.keys[static_cast<size_t>((k * world.kv_heads + kv) * world.dim + d)];
          }
          scores.push_back(call.options.softcap > 0 ? call.options.softcap * std::tanh(score / call.options.softcap) : score);
        }
        const double best = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (auto& score : scores) sum += score = std::exp(score - best);
        double size = 0;
        for (int64_t k = first; k <= position; ++k) {
          for (int64_t d = 0; d < world.dim; ++d) {
            const double v = s.values[static_cast<size_t>((k * world.kv_heads + kv) * world.dim + d)];
            out[static_cast<size_t>(d)] += scores[static_cast<size_t>(k - first)] / sum * v;
            size = std::max(size, std::abs(v));
          }
        }
        for (int64_t d = 0; d < world.dim; ++d) {
          const double difference = std::abs(got[static_cast<size_t>(((all[n].row + t) * world.heads + h) * world.dim + d)] - out[static_cast<size_t>(d)]);
          worst = std::max(worst, difference / size);
        }
      }
    }
  }
  return worst;
}

// A probability is rounded to bf16, by 2^-9 of itself, above and below the line; sums in f32 add little.
inline constexpr double kBound = 2 * 0x1p-9 + 1e-4;

}  // namespace deepseek::kernels
