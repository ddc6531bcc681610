#include "kernels/paged_attention/emulated.h"

#include "kernels/paged_attention/tile_attention.h"
#include "kernels/tiles_emulated.h"

namespace deepseek::kernels {

void attend_page_emulated(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  EmulatedTiles tiles;
  attend_page_on(tiles, keys, values, width, first_position, softcap, tile);
}

}  // namespace deepseek::kernels
