#include <algorithm>
#include <cmath>

#include "kernels/paged_attention/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

DEEPSEEK_VECTOR_CLONES void add_scores(const uint16_t* keys, const uint16_t* q, int64_t width, int64_t stride, float* scores) {
  float even[kKeyTile] = {}, odd[kKeyTile] = {};
  for (int64_t d = 0; d < width / 2; ++d) {
    const float a = bf16_to_f32(q[d * stride]), b = bf16_to_f32(q[d * stride + 1]);
    const uint16_t* row = keys + d * 2 * kKeyTile;
    for (int64_t s = 0; s < kKeyTile; ++s) {
      even[s] += a * bf16_to_f32(row[2 * s]);
      odd[s] += b * bf16_to_f32(row[2 * s + 1]);
    }
  }
  for (int64_t s = 0; s < kKeyTile; ++s) scores[s] = even[s] + odd[s];
}

DEEPSEEK_VECTOR_CLONES void add_values(const uint16_t* values, float weight, int64_t width, float* out) {
  for (int64_t d = 0; d < width; ++d) out[d] += weight * bf16_to_f32(values[2 * d]);
}

// out[i] = the product with tile i of a page.
DEEPSEEK_VECTOR_CLONES void products(const uint16_t* page, const uint16_t* estimator, int64_t n, float* out) {
  float sums[8 * kPageTiles] = {};
  for (int64_t d = 0; d < n; d += 8, page += 8 * kPageTiles) {
    float x[8];
    for (int64_t j = 0; j < 8; ++j) x[j] = bf16_to_f32(estimator[d + j]);
    for (int64_t i = 0; i < 8 * kPageTiles; ++i) sums[i] += bf16_to_f32(page[i]) * x[i % 8];
  }
  for (int64_t i = 0; i < kPageTiles; ++i) {
    out[i] = 0;
    for (int64_t j = 0; j < 8; ++j) out[i] += sums[8 * i + j];
  }
}

}  // namespace

void estimate_portable(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]) {
  for (int64_t e = 0; e < count; ++e) {
    for (int64_t p = 0; p < 4; ++p) products(pages[p], estimators + e * 2 * width, 2 * width, out[e] + p * kPageTiles);
  }
}

void attend_reference(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  for (int64_t t = 0; t < tile.count; ++t) {
    float scores[KeyTiles::kMost][kKeyTile];
    int64_t from[KeyTiles::kMost], to[KeyTiles::kMost];
    float best = tile.best[t];
    bool reads = false;
    for (int i = 0; i < keys.count; ++i) {
      from[i] = std::max<int64_t>(tile.first[t] - keys.positions[i], 0);
      to[i] = (keys.readers[i] >> t & 1u) != 0 ? std::min<int64_t>(tile.last[t] - keys.positions[i] + 1, kKeyTile) : 0;
      if (from[i] >= to[i]) continue;
      reads = true;
      add_scores(keys.keys[i], tile.q + 2 * t, width, 2 * tile.count, scores[i]);
      for (int64_t s = from[i]; s < to[i]; ++s) {
        float& score = scores[i][s];
        if (softcap > 0) score = softcap * std::tanh(score / softcap);
        best = score > best || score != score ? score : best;
      }
    }
    if (!reads) continue;
    float* out = tile.out + t * width;
    const float keep = std::exp(tile.best[t] - best);
    for (int64_t d = 0; d < width; ++d) out[d] *= keep;
    tile.sum[t] *= keep;
    tile.best[t] = best;
    for (int i = 0; i < keys.count; ++i) {
      for (int64_t s = from[i]; s < to[i]; ++s) {
        // Probabilities are rounded as the values are, so that all implementations agree.
        const float weight = bf16_to_f32(f32_to_bf16(std::exp(scores[i][s] - best)));
        tile.sum[t] += weight;
        add_values(keys.values[i] + s / 2 * 2 * width + s % 2, weight, width, out);
      }
    }
  }
}

}  // namespace deepseek::kernels
