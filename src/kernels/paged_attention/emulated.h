// The kernel of paged_attention_amx.cc on emulated tiles, on any machine. For the test.
#pragma once

#include "kernels/paged_attention/paged_attention.h"

namespace deepseek::kernels {

/// Takes queries as rows only.
void attend_emulated(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);

}  // namespace deepseek::kernels
