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

}  // namespace

void attend_page_reference(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  for (int64_t t = 0; t < tile.count; ++t) {
    const int64_t from = std::max<int64_t>(tile.first[t] - first_position, 0), to = std::min<int64_t>(tile.last[t] - first_position + 1, kPageTokens);
    if (from >= to) continue;
    float scores[kPageTokens];
    for (int64_t s = from / kKeyTile * kKeyTile; s < to; s += kKeyTile) {
      add_scores(keys + s * width, tile.q + 2 * t, width, 2 * tile.count, scores + s);
    }
    float best = tile.best[t];
    for (int64_t s = from; s < to; ++s) {
      if (softcap > 0) scores[s] = softcap * std::tanh(scores[s] / softcap);
      best = scores[s] > best || scores[s] != scores[s] ? scores[s] : best;
    }
    float* out = tile.out + t * width;
    const float keep = std::exp(tile.best[t] - best);
    for (int64_t d = 0; d < width; ++d) out[d] *= keep;
    tile.sum[t] *= keep;
    tile.best[t] = best;
    for (int64_t s = from; s < to; ++s) {
      // Probabilities are rounded as the values are, so that all implementations agree.
      const float weight = bf16_to_f32(f32_to_bf16(std::exp(scores[s] - best)));
      tile.sum[t] += weight;
      add_values(values + s / 2 * 2 * width + s % 2, weight, width, out);
    }
  }
}

}  // namespace deepseek::kernels
