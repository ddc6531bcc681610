// The implementations of paged_attention.h. Private to this folder.
#pragma once

#include "kernels/paged_attention/paged_attention.h"

namespace deepseek::kernels {

void attend_page_reference(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);
void attend_page_avx2(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);
void attend_page_avx512(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);

void attend_page_amx(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);

/// A short sequence beside the reference, within what rounding explains. Ignores kernel.declines.
[[nodiscard]] bool agrees_with_reference(const AttentionKernel& kernel);

}  // namespace deepseek::kernels
