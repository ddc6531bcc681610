#include <vector>

#include "kernels/quant_matmul/implementations.h"

namespace deepseek::kernels {

// Sums in f64: what the others are measured against.
void multiply_reference(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t*) {
  std::vector<float> row(static_cast<size_t>(w.columns()));
  for (int64_t r = begin * kTileRows; r < std::min(end * kTileRows, w.rows()); ++r) {
    w.row(r, row);
    for (int64_t t = 0; t < x.tokens(); ++t) {
      double sum = 0;
      for (int64_t c = 0; c < w.columns(); ++c) sum += static_cast<double>(row[static_cast<size_t>(c)]) * x.value(t, c);
      out[t * stride + r] = static_cast<float>(sum);
    }
  }
}

}  // namespace deepseek::kernels
