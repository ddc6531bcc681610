// Products of small bf16 matrices in f32 on one thread: on tiles of AMX, on pairs of AVX-512 BF16, or widened.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace deepseek::kernels {

constexpr int64_t kPairDepth = 32;    // depth is a multiple of this
constexpr int64_t kPairColumns = 16;  // and columns of this

/// c[r][j] (+)= sum over k of a[r][k] * b[k][j], summed in f32. An element's bits depend on its row of a, its column of b and the kernel alone.
/// Denormals of a and b may count as 0.
struct Bf16Product {
  const uint16_t* a = nullptr;  ///< bf16 [rows][a_row]
  int64_t a_row = 0;
  const uint16_t* b = nullptr;  ///< bf16 in blocks of 16 columns, pairs of rows side by side: [columns / 16][depth / 2][16][2]
  int64_t b_block = 0;          ///< elements from block to block
  float* c = nullptr;  ///< [rows][c_row]
  int64_t c_row = 0;
  int64_t rows = 0, depth = 0, columns = 0;
  bool add = false;  ///< onto what c holds
};

struct Bf16Kernel {
  std::string_view name;
  std::string (*declines)();  ///< the reason; empty: it runs here
  void (*run)(const Bf16Product&);
};
/// Best first, "reference" last.
[[nodiscard]] std::span<const Bf16Kernel> bf16_kernels();

/// With the first kernel that runs here, or the one that DEEPSEEK_FORCE_KERNEL names; throws c10::Error where that cannot be.
void multiply(const Bf16Product& product);
/// Whether that is faster here than products of the same numbers widened to f32: as tiles of AMX are, or vectors. Always where DEEPSEEK_FORCE_KERNEL names
/// a kernel.
[[nodiscard]] bool bf16_products_pay();
/// The same for vectors: true of AMD's AVX-512 BF16; Intel's is half as fast as its f32 (measured on an Emerald Rapids: 170 against 300 Gop/s). A forced kernel
/// makes all of them true on any processor.
[[nodiscard]] bool bf16_vectors_pay();
/// The same for tiles: true of AMX.
[[nodiscard]] bool bf16_tiles_pay();

/// Rows of x, [rows][width] bf16, as b: into [width / 16][padded / 2][16][2], zeros behind the last row. width: a multiple of 16; padded, even: at least rows.
void pair_rows(const uint16_t* x, int64_t rows, int64_t width, int64_t padded, uint16_t* to);
/// The same of x transposed, as b of a depth of `width`: into [padded / 16][width / 2][16][2]. width and padded: multiples of 32 and 16.
void pair_columns(const uint16_t* x, int64_t rows, int64_t width, int64_t padded, uint16_t* to);

}  // namespace deepseek::kernels
