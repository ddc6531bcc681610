// Apart from the products, so that a program without libtorch can ask.
#include <cstdlib>

#include "hardware/cpu.h"
#include "kernels/bf16_product/bf16_product.h"

namespace deepseek::kernels {

bool bf16_vectors_pay() {
  static const bool pay = std::getenv("DEEPSEEK_FORCE_KERNEL") != nullptr || (hardware::cpu().features.avx512_bf16 && hardware::cpu().vendor == "AuthenticAMD");
  return pay;
}

bool bf16_products_pay() { return bf16_vectors_pay() || hardware::cpu().features.amx_bf16; }

}  // namespace deepseek::kernels
