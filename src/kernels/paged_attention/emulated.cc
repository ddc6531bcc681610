#include "kernels/paged_attention/emulated.h"

#include "kernels/paged_attention/tile_attention.h"
#include "kernels/tiles_emulated.h"

namespace deepseek::kernels {

void attend_emulated(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  EmulatedTiles tiles;
  attend_on(tiles, keys, width, softcap, tile);
}

}  // namespace deepseek::kernels
