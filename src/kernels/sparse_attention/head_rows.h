// Rows of keys in the forms that the kernels of this folder share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <optional>
#include <vector>

namespace deepseek::kernels {

constexpr int64_t kGradientParts = 8;  // of a backward pass for each batch, so that few key heads occupy many threads too

/// sums: [heads, parts, keys, width] f32. Adds the parts of each head in order, so that threads change nothing, and writes them, rounded, into
/// `into`, whose rows are [heads * keys]. sums is overwritten.
void store_sum_of_parts(float* sums, int64_t parts, int64_t width, const at::Tensor& into);

/// row[s] = sum over heads of weights[j] * relu(tile[j][s]), s < kPanel (key_panels.h); NaN stays. Source: DeepSeek-V3.2-Exp, equation 1.
void weighted_relu(const float* tile, const float* weights, int64_t heads, float* row);

/// Block i of `blocks` from both ends in turn: under a causal mask late blocks cost more, and each thread gets neighbours.
inline int64_t from_both_ends(int64_t i, int64_t blocks) { return i % 2 == 0 ? i / 2 : blocks - 1 - i / 2; }

/// Refuses other types than f32 and bf16, on any device.
void check_type(const char* what, const at::Tensor& x);

/// The factor before q.k where none is given.
inline double scale_of(const std::optional<double>& scale, int64_t dim) { return scale.value_or(1.0 / std::sqrt(static_cast<double>(dim))); }

}  // namespace deepseek::kernels
