// The kernel of bf16_product_amx.cc on emulated tiles, on any machine. For the test.
#pragma once

#include "kernels/bf16_product/bf16_product.h"

namespace deepseek::kernels {

void multiply_pairs_emulated(const Bf16Product& p);

}  // namespace deepseek::kernels
