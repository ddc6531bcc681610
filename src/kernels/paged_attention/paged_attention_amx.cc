// AMX: scores of 16 queries with 16 keys, or 16 dimensions of their results, in a tile register.
#include "kernels/paged_attention/implementations.h"
#include "kernels/paged_attention/tile_attention.h"

namespace deepseek::kernels {

void attend_page_amx(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile) {
  if (!tile.rows) return attend_page_avx512(keys, values, width, first_position, softcap, tile);
  AmxTiles tiles;
  attend_page_on(tiles, keys, values, width, first_position, softcap, tile);
}

}  // namespace deepseek::kernels
