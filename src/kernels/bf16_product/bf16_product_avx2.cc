#include "kernels/bf16_product/implementations.h"
#include "kernels/bf16_product/vector_pairs.h"

namespace deepseek::kernels {

void multiply_pairs_avx2(const Bf16Product& p) { multiply_pairs<WidenedPairs, 4, 1>(p); }  // a vector is two registers: 8 sums and 4 values of 16

}  // namespace deepseek::kernels
