// Which scores of a row are kept, found by counting passes that the compiler turns into vectors.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace deepseek::kernels {

/// x[i] is kept where it is above `threshold`, or equal to it and i < equal_before.
struct KeptScores {
  float threshold = -std::numeric_limits<float>::infinity();
  int64_t equal_before = 0;
};

struct RowFacts {
  float smallest = 0, largest = 0;  ///< of a row with NaN: of the others
  float mean = 0, deviation = 0;    ///< estimates where a search begins; they may be infinite or NaN
  bool has_nan = false;
};
[[nodiscard]] RowFacts facts_of(const float* x, int64_t n);

/// z with P(Z > z) = p for a standard normal Z, to 5e-4. Source: Abramowitz and Stegun, 26.2.23.
[[nodiscard]] double normal_quantile(double p);

/// The `count` largest of x [n], equal ones from the lower index on; 1 <= count <= n. No NaN, nothing +infinite.
[[nodiscard]] KeptScores largest_scores(const float* x, int64_t n, int64_t count, const RowFacts& facts);

/// The fewest of the largest whose weights [n], exponentials() of scale, reach `mass`, and no fewer than `least`. Sums are in f32.
[[nodiscard]] KeptScores scores_of_mass(const float* x, const float* weights, int64_t n, int64_t least, float mass, const RowFacts& facts, float scale);

[[nodiscard]] int64_t kept_count(const float* x, int64_t n, const KeptScores& kept);
/// Sum of the weights [n] of the kept.
[[nodiscard]] float kept_mass(const float* x, const float* weights, int64_t n, const KeptScores& kept);

/// out[i] = exp((x[i] - shift) * scale) for all, 0 where that is below e^-87 or NaN; shift: the largest. Returns their sum. out may be x.
float exponentials(const float* x, float shift, float scale, float* out, int64_t n);
/// x[i] = exp((x[i] - shift) * scale) where kept, else 0. Returns their sum.
float kept_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale);
/// The same weights rounded to bf16; the sum is of those before rounding.
float kept_exponentials(const float* x, uint16_t* rounded, int64_t n, const KeptScores& kept, float shift, float scale);

constexpr int64_t kListBlock = 128;  // keys of a block: 128 rows of 64 floats are 32 KiB, which the first cache holds while all lists of a tile read them

/// The kept of x [n], in their order, move to the front of x; keys[i] is the place of the i-th in its block, ends[b] the number of them up to the end of
/// block b. Returns their number. Room: x for a multiple of 16, keys for
/// 16 more than n.
int64_t pack_kept(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends);
/// The same as indices: keys[i] is the index of the i-th.
int64_t kept_keys(float* x, int64_t n, const KeptScores& kept, int32_t* keys);
struct PackKernel {
  std::string_view name;
  bool (*runs)();
  int64_t (*pack)(float* x, int64_t n, const KeptScores& kept, uint8_t* keys, int32_t* ends);
};
/// Best first; the last one runs anywhere.
[[nodiscard]] std::span<const PackKernel> pack_kernels();

struct PackedRow {
  int64_t count;
  float sum;
};
/// As pack_kept, with x[i] = exp((score - shift) * scale) ; those below e^-87 are not kept.
PackedRow packed_exponentials(float* x, int64_t n, const KeptScores& kept, float shift, float scale, uint8_t* keys, int32_t* ends);

/// g[i] = scale * p[i] * (g[i] - mean): from the gradient of probabilities p to that of the scores.
void score_gradient(const float* p, float mean, float scale, float* g, int64_t n);

}  // namespace deepseek::kernels
