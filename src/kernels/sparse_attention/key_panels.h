// Scores of rows of queries with keys: bf16 inputs by bf16 products where these pay, else by f32 ones; sums are in f32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace deepseek::kernels {

constexpr int64_t kPanel = 64;  // keys side by side in a panel

/// Rows in f32 and, for bf16 products, in bf16; dim is padded with zeros to KeyPanels::width().
struct ScoreRows {
  std::vector<float> f32;
  std::vector<uint16_t> bf16;
};

/// Transposed keys in panels of kPanel.
class KeyPanels {
 public:
  /// keys: [..., keys, dim] f32|bf16, contiguous; the leading dimensions together are heads.
  explicit KeyPanels(const at::Tensor& keys);

  [[nodiscard]] bool bf16() const { return bf16_; }  ///< by bf16 products
  [[nodiscard]] int64_t width() const { return width_; }
  [[nodiscard]] int64_t panels() const { return panels_; }  ///< of each head
  [[nodiscard]] int64_t padded_keys() const { return panels_ * kPanel; }

  /// Rows [first, first + count) of x [..., dim], contiguous, of the keys' type.
  void load(const at::Tensor& x, int64_t first, int64_t count, ScoreRows& to) const;
  /// out[r * stride + s] = row r of `rows` times key kPanel * panel + s of `head`, for r < count and s < columns, a multiple of 16. 0 behind the last
  /// key. An element depends on its row and key alone.
  void multiply(const ScoreRows& rows, int64_t count, int64_t head, int64_t panel, int64_t columns, float* out, int64_t stride) const;

 private:
  bool bf16_;
  int64_t dim_, width_, panels_;
  at::Tensor f32_;    // [heads][panels][width][kPanel]
  at::Tensor pairs_;  // [heads][panels * kPanel / 16][width / 2][16][2]
};

}  // namespace deepseek::kernels
