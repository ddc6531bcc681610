// Apart from the products, so that a program without libtorch can ask.
#include <cstdlib>

#include "hardware/cpu.h"
#include "kernels/bf16_product/bf16_product.h"

namespace deepseek::kernels {

bool bf16_products_pay() {
  static const bool pay = [] {
    const auto& cpu = hardware::cpu();
    return std::getenv("DEEPSEEK_FORCE_KERNEL") != nullptr || cpu.features.amx_bf16 || (cpu.features.avx512_bf16 && cpu.vendor == "AuthenticAMD");
  }();
  return pay;
}

}  // namespace deepseek::kernels
