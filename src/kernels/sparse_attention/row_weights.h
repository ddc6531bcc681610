// Scores of a row become the weights of those that are kept, where they stand or packed as a list.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/sparse_attention/row_selection.h"

namespace deepseek::kernels {

/// out[i] = exp((x[i] - shift) * scale) for all, 0 where that is below e^-87 or NaN; shift: the largest. Returns their sum. out may be x.
float exponentials(const float* x, float shift, float scale, float* out, int64_t n);
/// x[i] = exp((x[i] - shift) * scale) where kept, else 0. Returns their sum.
float kept_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale);
/// The same weights rounded to bf16; the sum is of those before rounding.
float kept_exponentials(const float* x, uint16_t* rounded, int64_t n, const KeptScores& kept, float shift, float scale);
/// g[i] = scale * p[i] * (g[i] - mean): from the gradient of probabilities p to that of the scores.
void score_gradient(const float* p, float mean, float scale, float* g, int64_t n);

constexpr int64_t kListBlock = 128;  // keys of a block: 128 rows of 64 floats are 32 KiB, which the first cache holds while all lists of a tile read them

/// The kept of x [n], in their order, move to the front of x; keys[i] is the place of the i-th in its block, ends[b] the number of them up to the end of
/// block b. Returns their number. Room: x for a multiple of 16, keys for 16 more than n.
int64_t pack_kept(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends);
/// The same as indices: keys[i] is the index of the i-th.
int64_t kept_keys(float* x, int64_t n, const KeptScores& kept, int32_t* keys);

struct PackedRow {
  int64_t count;
  float sum;
};
/// As pack_kept, with x[i] = exp((score - shift) * scale), without those below e^-87; their number and sum.
PackedRow packed_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale, uint8_t* keys, int32_t* ends);

struct PackKernel {
  std::string_view name;
  bool (*runs)();
  int64_t (*pack)(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends);
};
/// What pack_kept may run: best first; the last one runs anywhere.
[[nodiscard]] std::span<const PackKernel> pack_kernels();

}  // namespace deepseek::kernels
