// The tile registers of AMX. A kernel is a template over a machine with the members of AmxTiles: this one, or the emulation of tests
// (tiles_emulated.h). Everything is inlined by force, so that nothing compiled for AMX reaches other files.
#pragma once

#include <cstdint>

namespace deepseek::kernels {

/// What ldtilecfg reads: up to 16 rows of 64 bytes for each of 8 tiles, in palette 1.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  [[gnu::always_inline]] void set(int tile, int64_t count, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(count);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileShapes) == 64);

#if defined(__x86_64__)
/// The processor's own. GCC 12's intrinsics take no template parameters as tile numbers and do not say that they read memory.
class AmxTiles {
 public:
  [[gnu::always_inline]] void configure(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" : : "m"(shapes)); }
  [[gnu::always_inline]] void release() { __asm__ volatile("tilerelease"); }

  template <int Tile>
  [[gnu::always_inline]] void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }
  /// `stride` bytes lie between rows in memory.
  template <int Tile>
  [[gnu::always_inline]] void load(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(from), "r"(stride) : "memory");
  }
  template <int Tile>
  [[gnu::always_inline]] void store(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(to), "r"(stride) : "memory");
  }
  /// C[m][n] += sum of A[m][k] B[k][n] in int32. A: signed bytes [m][k]; B: signed bytes [k / 4][n][4].
  template <int C, int A, int B>
  [[gnu::always_inline]] void multiply_bytes() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  /// The same for bf16 in f32: A: [m][k]; B: [k / 2][n][2]. Denormals count as zero.
  template <int C, int A, int B>
  [[gnu::always_inline]] void multiply_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};
#endif

}  // namespace deepseek::kernels
