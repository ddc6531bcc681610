#include "kernels/bf16_product/implementations.h"
#include "kernels/bf16_product/tile_pairs.h"

namespace deepseek::kernels {

void multiply_pairs_amx(const Bf16Product& p) {
  AmxTiles tiles;
  multiply_on(tiles, p);
}

}  // namespace deepseek::kernels
