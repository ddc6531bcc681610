#include "kernels/bf16_product/implementations.h"
#include "kernels/bf16_product/vector_pairs.h"

namespace deepseek::kernels {
namespace {

struct Bf16Pairs {
  using Columns = Words;
  DEEPSEEK_INLINE static Columns columns(Words pairs) { return pairs; }
  DEEPSEEK_INLINE static Floats add(Floats sum, uint32_t pair, Columns b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(pair)), (__m512bh)b);
  }
};

}  // namespace

void multiply_pairs_avx512(const Bf16Product& p) { multiply_pairs<Bf16Pairs, 6, 4>(p); }  // 24 sums, 4 values and a broadcast of 32 registers

}  // namespace deepseek::kernels
