// The implementations of paged_attention.h. Private to this folder.
#pragma once

#include "kernels/paged_attention/paged_attention.h"

namespace deepseek::kernels {

void attend_reference(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);
void attend_avx2(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);
void attend_avx512(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);       ///< the faster of these two
void attend_avx512_bf16(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);  ///< for AVX-512 BF16
void attend_avx512_wide(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);  ///< for AVX-512 alone

void attend_amx(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);

void estimate_portable(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]);
void estimate_avx512_bf16(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]);
void estimate_avx512_wide(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]);

/// A short sequence beside the reference, within what rounding explains. Ignores kernel.declines.
[[nodiscard]] bool agrees_with_reference(const AttentionKernel& kernel);

}  // namespace deepseek::kernels
