// The kernel of quant_matmul_amx.cc on emulated tiles, on any machine. For the test.
#pragma once

#include "kernels/quant_matmul/quant_matmul.h"

namespace deepseek::kernels {

/// Integers and bf16.
void multiply_emulated(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);

/// unpack_tile_avx512 in plain C++.
void unpack_tile_plain(const PackedMatrix& w, int64_t tile, uint8_t* scratch);

}  // namespace deepseek::kernels
