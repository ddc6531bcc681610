#include "kernels/sparse_attention/key_panels.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/bf16_product/bf16_product.h"
#include "kernels/elementwise/tensor_rows.h"
#include "kernels/sparse_attention/block_product.h"

namespace deepseek::kernels {
KeyPanels::KeyPanels(const at::Tensor& keys)
    : bf16_(keys.scalar_type() == at::kBFloat16 && bf16_products_pay()), dim_(keys.size(-1)), width_(round_up(dim_, kPairDepth)), panels_((keys.size(-2) + kPanel - 1) / kPanel) {
  const int64_t count = keys.size(-2), heads = keys.numel() / (count * dim_), size = width_ * kPanel;
  if (bf16_) pairs_ = aligned_numbers(heads * panels_ * size, at::kBFloat16);
  else f32_ = aligned_numbers(heads * panels_ * size, at::kFloat);
  at::parallel_for(0, heads * panels_, 1, [&](int64_t from, int64_t to) {
    std::vector<float> rows(bf16_ ? 0 : static_cast<size_t>(size));
    std::vector<uint16_t> halves(bf16_ ? static_cast<size_t>(size) : 0);
    for (int64_t p = from; p < to; ++p) {
      const int64_t first = p % panels_ * kPanel, n = std::min(kPanel, count - first), row = p / panels_ * count + first;
      if (bf16_) {
        copy_rows(keys, row, n, width_, halves.data());
        pair_columns(halves.data(), n, width_, kPanel, data_of<uint16_t>(pairs_) + p * size);
      } else {
        load_rows(keys, row, n, width_, rows.data());
        std::fill(rows.begin() + n * width_, rows.end(), 0.0f);
        transpose(rows.data(), width_, kPanel, width_, data_of<float>(f32_) + p * size, kPanel);
      }
    }
  });
}

void KeyPanels::load(const at::Tensor& x, int64_t first, int64_t count, ScoreRows& to) const {
  const auto size = static_cast<size_t>(count * width_);
  if (to.f32.size() < size) to.f32.resize(size);
  load_rows(x, first, count, width_, to.f32.data());
  if (!bf16_) return;
  if (to.bf16.size() < size) to.bf16.resize(size);
  copy_rows(x, first, count, width_, to.bf16.data());
}

void KeyPanels::multiply(const ScoreRows& rows, int64_t count, int64_t head, int64_t panel, int64_t columns, float* out, int64_t stride) const {
  const int64_t at = (head * panels_ + panel) * width_ * kPanel;
  if (bf16_) {
    kernels::multiply(Bf16Product{.a = rows.bf16.data(), .a_row = width_, .b = data_of<uint16_t>(pairs_) + at, .b_block = width_ * 16, .c = out, .c_row = stride,
                                  .rows = count, .depth = width_, .columns = columns});
    return;
  }
  for (int64_t first = 0; first < columns; first += kPanel) {
    kernels::multiply(BlockProduct{.a = rows.f32.data(), .a_row = width_, .b = data_of<float>(f32_) + at + first * width_, .b_row = kPanel, .c = out + first, .c_row = stride,
                                   .rows = count, .depth = dim_, .columns = std::min(kPanel, columns - first)});
  }
}

}  // namespace deepseek::kernels
