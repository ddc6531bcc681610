// The implementations of quant_matmul.h. Private to this folder.
#pragma once

#include "kernels/quant_matmul/quant_matmul.h"

namespace deepseek::kernels {

void multiply_reference(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);
void multiply_avx2(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);
void multiply_avx512(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);

void multiply_amx(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);

/// Integers of one tile of rows as unsigned bytes with zero = 128, in scratch: cells [blocks][8][64], scales [blocks][32 / block][16] f32, mins
/// [blocks][16] f32 where there are mins.
void unpack_tile_avx512(const PackedMatrix& w, int64_t tile, uint8_t* scratch);

/// Small products of every kind, with numbers that leave nothing to round, beside the reference's. Ignores kernel.declines.
[[nodiscard]] bool equals_reference(const MatmulKernel& kernel);

}  // namespace deepseek::kernels
