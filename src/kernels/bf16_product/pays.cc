// Apart from the products, so that a program without libtorch can ask.
#include <cstdlib>

#include "hardware/cpu.h"
#include "kernels/bf16_product/bf16_product.h"

namespace deepseek::kernels {

namespace {
bool forced() { return std::getenv("DEEPSEEK_FORCE_KERNEL") != nullptr; }
}  // namespace

bool bf16_vectors_pay() {
  static const bool pay = forced() || (hardware::cpu().features.avx512_bf16 && hardware::cpu().vendor == "AuthenticAMD");
  return pay;
}

bool bf16_tiles_pay() {
  static const bool pay = forced() || hardware::cpu().features.amx_bf16;
  return pay;
}

bool bf16_products_pay() { return bf16_vectors_pay() || bf16_tiles_pay(); }

}  // namespace deepseek::kernels
