// The implementations of quant_matmul.h. Private to this folder.
#pragma once

#include "kernels/quant_matmul/quant_matmul.h"

namespace deepseek::kernels {

void multiply_reference(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);
void multiply_avx2(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);
void multiply_avx512(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);

}  // namespace deepseek::kernels
