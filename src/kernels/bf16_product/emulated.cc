#include "kernels/bf16_product/emulated.h"

#include "kernels/bf16_product/tile_pairs.h"
#include "kernels/tiles_emulated.h"

namespace deepseek::kernels {

void multiply_pairs_emulated(const Bf16Product& p) {
  EmulatedTiles tiles;
  multiply_on(tiles, p);
}

}  // namespace deepseek::kernels
