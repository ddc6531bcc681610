// The implementations of bf16_product.h. Private to this folder.
#pragma once

#include "kernels/bf16_product/bf16_product.h"

namespace deepseek::kernels {

void multiply_pairs_reference(const Bf16Product& p);
void multiply_pairs_avx2(const Bf16Product& p);
void multiply_pairs_avx512(const Bf16Product& p);
void multiply_pairs_amx(const Bf16Product& p);

/// A small product beside the reference.
[[nodiscard]] bool agrees_with_reference(void (*run)(const Bf16Product&));

}  // namespace deepseek::kernels
