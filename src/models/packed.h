// Sequences of tokens laid end to end, so that no pass computes padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace deepseek::models {

/// Sequences laid end to end; attention never crosses from one to the next.
struct PackedSequences {
  at::Tensor tokens;                 ///< [T] i64
  std::vector<int64_t> offsets{0};   ///< sequence i is tokens[offsets[i], offsets[i + 1])
};
/// Empty sequences are left out.
[[nodiscard]] PackedSequences pack_sequences(const std::vector<std::vector<int32_t>>& sequences);
/// [n] i64.
[[nodiscard]] at::Tensor tokens_tensor(const std::vector<int32_t>& tokens);
/// [n] f32.
[[nodiscard]] at::Tensor float_tensor(const std::vector<float>& values);
[[nodiscard]] at::Tensor index_tensor(const std::vector<int64_t>& indices);

}  // namespace deepseek::models
