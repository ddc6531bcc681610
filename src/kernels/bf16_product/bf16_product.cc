#include "kernels/bf16_product/bf16_product.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "hardware/cpu.h"
#include "kernels/bf16_product/implementations.h"
#include "kernels/choose.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

std::string never() { return ""; }

#if defined(__x86_64__)
std::string without_avx2() {
  const auto& f = hardware::cpu().features;
  return f.avx2 && f.fma ? "" : "the processor has no AVX2 with FMA";
}

std::string without_avx512() {
  const auto& f = hardware::cpu().features;
  return f.avx512f && f.avx512bw && f.avx512vl && f.avx512_bf16 ? "" : "the processor has no AVX-512 BF16";
}

std::string without_tiles() {
  if (!hardware::request_amx()) return "the kernel refused the tiles (arch_prctl)";
  return agrees_with_reference(multiply_pairs_amx) ? "" : "AMX gave wrong results in its self-check";
}

std::string without_amx() {
  if (!hardware::cpu().features.amx_bf16) return "the processor has no AMX bf16";
  static const std::string reason = without_tiles();  // checked once
  return reason;
}
#endif

constexpr std::array kKernels{
#if defined(__x86_64__)
    Bf16Kernel{"amx", without_amx, multiply_pairs_amx},
    Bf16Kernel{"avx512", without_avx512, multiply_pairs_avx512},
    Bf16Kernel{"avx2", without_avx2, multiply_pairs_avx2},
#endif
    Bf16Kernel{"reference", never, multiply_pairs_reference},
};

const Bf16Kernel& chosen() {
  static const auto kernel = choose_kernel(bf16_kernels());
  TORCH_CHECK(kernel, kernel.error().message);
  return **kernel;
}

}  // namespace

std::span<const Bf16Kernel> bf16_kernels() { return kKernels; }

void multiply(const Bf16Product& product) { chosen().run(product); }

void pair_rows(const uint16_t* x, int64_t rows, int64_t width, int64_t padded, uint16_t* to) {
  std::fill(to, to + width * padded, uint16_t{0});
  for (int64_t block = 0; block < width / 16; ++block) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < 16; ++j) to[block * padded * 16 + (r / 2 * 16 + j) * 2 + r % 2] = x[r * width + block * 16 + j];
    }
  }
}

void pair_columns(const uint16_t* x, int64_t rows, int64_t width, int64_t padded, uint16_t* to) {
  std::fill(to, to + width * padded, uint16_t{0});
  for (int64_t r = 0; r < rows; ++r) {
    uint16_t* block = to + r / 16 * width * 16 + r % 16 * 2;
    for (int64_t k = 0; k < width; k += 2) {
      block[k * 16] = x[r * width + k];
      block[k * 16 + 1] = x[r * width + k + 1];
    }
  }
}

bool agrees_with_reference(void (*run)(const Bf16Product&)) {
  constexpr int64_t kRows = 37, kDepth = 64, kColumns = 48;
  std::vector<uint16_t> a(kRows * kDepth), b(kDepth * kColumns);
  const auto wave = [](size_t i) { return f32_to_bf16(std::sin(static_cast<float>(i * i % 1009))); };
  for (size_t i = 0; i < a.size(); ++i) a[i] = wave(i);
  for (size_t i = 0; i < b.size(); ++i) b[i] = wave(3 * i + 1);
  std::vector<float> got(kRows * kColumns, 1.0f), expected = got;
  const auto product = [&](std::vector<float>& c) {
    return Bf16Product{.a = a.data(), .a_row = kDepth, .b = b.data(), .b_block = kDepth * 16, .c = c.data(), .c_row = kColumns, .rows = kRows, .depth = kDepth, .columns = kColumns, .add = true};
  };
  run(product(got));
  multiply_pairs_reference(product(expected));
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - expected[i]) <= 2 * kDepth * kDepth * 0x1p-24f)) return false;  // 64 products below 1, two orders of rounded sums
  }
  return true;
}

}  // namespace deepseek::kernels
