// The kernel of paged_attention_amx.cc on emulated tiles, on any machine. For the test.
#pragma once

#include "kernels/paged_attention/paged_attention.h"

namespace deepseek::kernels {

/// Takes queries as rows only.
void attend_page_emulated(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);

}  // namespace deepseek::kernels
