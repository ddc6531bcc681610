// AMX: 16 outputs of 16 tokens in a tile register.
#include "kernels/quant_matmul/implementations.h"
#include "kernels/quant_matmul/tile_product.h"

namespace deepseek::kernels {

void multiply_amx(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  const PackedFormat& f = w.format();
  // Few tokens do not pay for turning the weights. bf16 stays: AVX-512 rounds its sums otherwise, and they must not depend on the number.
  const bool few = x.tokens() <= PackedRows::kMostWidth;
  if (f.bits == 32 || (f.is_integer() && few)) return multiply_avx512(w, x, begin, end, out, stride, scratch);
  AmxTiles tiles;
  multiply_on(tiles, unpack_tile_avx512, w, x, begin, end, out, stride, scratch);
}

}  // namespace deepseek::kernels
