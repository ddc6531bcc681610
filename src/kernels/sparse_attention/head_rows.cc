#include "kernels/sparse_attention/head_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/simd.h"
#include "kernels/sparse_attention/key_panels.h"

namespace deepseek::kernels {

void store_sum_of_parts(float* sums, int64_t parts, int64_t width, const at::Tensor& into) {
  const int64_t keys = into.size(-2), heads = into.numel() / (keys * into.size(-1)), size = keys * width;
  at::parallel_for(0, heads, 1, [&](int64_t from, int64_t to) {
    for (int64_t h = from; h < to; ++h) {
      float* first = sums + h * parts * size;
      for (int64_t p = 1; p < parts; ++p) add_row(first, first + p * size, size);
      store_rows(first, width, h * keys, keys, into);
    }
  });
}

void check_type(const char* what, const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, what, ": expected f32 or bf16, got ", x.scalar_type());
}

DEEPSEEK_VECTOR_CLONES void weighted_relu(const float* tile, const float* weights, int64_t heads, float* row) {
  float sums[kPanel] = {};
  for (int64_t j = 0; j < heads; ++j) {
    const float w = weights[j], *x = tile + j * kPanel;
    for (int64_t s = 0; s < kPanel; ++s) sums[s] += w * (x[s] < 0 ? 0.0f : x[s]);
  }
  std::copy(sums, sums + kPanel, row);
}

}  // namespace deepseek::kernels
