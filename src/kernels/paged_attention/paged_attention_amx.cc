// AMX: scores of 16 queries with 16 keys, or 16 dimensions of their results, in a tile register.
#include "kernels/paged_attention/implementations.h"
#include "kernels/paged_attention/tile_attention.h"

namespace deepseek::kernels {

void attend_amx(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  if (!tile.rows) return attend_avx512(keys, width, softcap, tile);
  AmxTiles tiles;
  attend_on(tiles, keys, width, softcap, tile);
}

}  // namespace deepseek::kernels
