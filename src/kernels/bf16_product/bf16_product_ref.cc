#include <bit>

#include "kernels/bf16_product/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {

void multiply_pairs_reference(const Bf16Product& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t j = 0; j < p.columns; ++j) {
      float sum = p.add ? p.c[r * p.c_row + j] : 0.0f;
      for (int64_t k = 0; k < p.depth; ++k) sum += bf16_to_f32(p.a[r * p.a_row + k]) * bf16_to_f32(p.b[j / 16 * p.b_block + (k / 2 * 16 + j % 16) * 2 + k % 2]);
      p.c[r * p.c_row + j] = sum;
    }
  }
}

}  // namespace deepseek::kernels
