// AMX's tiles in plain C++, for tests on processors without them. What is emulated, from Intel's Software Developer's Manual, volume 2:
// - ldtilecfg, palette 1: 8 tiles of at most 16 rows and 64 bytes, bytes a multiple of 4, both zero or neither; reserved bytes are zero,
//   else #GP. All tiles become zero.
// - tileloadd fills the configured rows and bytes, the rest of the tile becomes zero; tilestored writes the configured part only.
// - tdpbssd, tdpbf16ps: three different tiles; A.rows = C.rows, B.row_bytes = C.row_bytes, A.row_bytes = 4 B.rows, else #UD.
// - tdpbf16ps: even and odd elements of a row are summed apart, each by fused multiply-adds from zero, then added to each other, then to C;
//   every step rounds to nearest even, takes denormals as zero and flushes them.
// What would fault ends the program.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/tiles.h"

namespace deepseek::kernels {

class EmulatedTiles {
 public:
  void configure(const TileShapes& shapes) {
    check(shapes.palette == 1 && shapes.start_row == 0, "palette and first row");
    for (const uint8_t byte : shapes.reserved) check(byte == 0, "reserved bytes");
    for (int t = 0; t < 16; ++t) {
      const int rows = shapes.rows[t], bytes = shapes.row_bytes[t];
      check(t < 8 ? rows <= 16 && bytes <= 64 && bytes % 4 == 0 && (rows == 0) == (bytes == 0) : rows == 0 && bytes == 0, "shape of a tile");
      if (t < 8) tiles_[t] = {rows, bytes, {}};
    }
    configured_ = true;
  }
  void release() { configured_ = false; }

  template <int T>
  void zero() {
    std::memset(tile(T).data, 0, sizeof(Tile::data));
  }
  template <int T>
  void load(const void* from, int64_t stride) {
    zero<T>();
    for (int r = 0; r < tile(T).rows; ++r) {
      std::memcpy(tile(T).data[r], static_cast<const uint8_t*>(from) + r * stride, static_cast<size_t>(tile(T).row_bytes));
    }
  }
  template <int T>
  void store(void* to, int64_t stride) {
    for (int r = 0; r < tile(T).rows; ++r) {
      std::memcpy(static_cast<uint8_t*>(to) + r * stride, tile(T).data[r], static_cast<size_t>(tile(T).row_bytes));
    }
  }

  template <int C, int A, int B>
  void multiply_bytes() {
    check_product(C, A, B);
    Tile& c = tile(C);
    for (int m = 0; m < c.rows; ++m) {
      for (int n = 0; n < c.row_bytes / 4; ++n) {
        uint32_t sum = c.at<uint32_t>(m, n);  // wraps around
        for (int k = 0; k < tile(A).row_bytes; ++k) {
          sum += static_cast<uint32_t>(tile(A).template at<int8_t>(m, k) * tile(B).template at<int8_t>(k / 4, 4 * n + k % 4));
        }
        c.put(m, n, sum);
      }
    }
  }
  template <int C, int A, int B>
  void multiply_bf16() {
    check_product(C, A, B);
    Tile& c = tile(C);
    for (int m = 0; m < c.rows; ++m) {
      for (int n = 0; n < c.row_bytes / 4; ++n) {
        float sums[2] = {};
        for (int k = 0; k < tile(A).row_bytes / 2; ++k) {
          const float a = tile(A).bf16(m, k), b = tile(B).bf16(k / 2, 2 * n + k % 2);
          sums[k % 2] = flushed(std::fma(a, b, sums[k % 2]));
        }
        c.put(m, n, flushed(flushed(c.at<float>(m, n)) + flushed(sums[0] + sums[1])));
      }
    }
  }

 private:
  struct Tile {
    int rows = 0, row_bytes = 0;
    uint8_t data[16][64] = {};
    template <typename T>
    [[nodiscard]] T at(int row, int index) const {
      T value;
      std::memcpy(&value, data[row] + static_cast<size_t>(index) * sizeof(T), sizeof(T));
      return value;
    }
    template <typename T>
    void put(int row, int index, T value) {
      std::memcpy(data[row] + static_cast<size_t>(index) * sizeof(T), &value, sizeof(T));
    }
    [[nodiscard]] float bf16(int row, int index) const {
      const uint32_t bits = static_cast<uint32_t>(at<uint16_t>(row, index)) << 16;
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      return flushed(value);
    }
  };

  static float flushed(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }
  static void check(bool fine, const char* what) {
    if (fine) return;
    std::fprintf(stderr, "emulated tiles: a processor would fault: %s\n", what);
    std::abort();
  }
  Tile& tile(int index) {
    check(configured_ && tiles_[index].rows > 0, "a tile that is not configured");
    return tiles_[index];
  }
  void check_product(int c, int a, int b) {
    check(c != a && c != b && a != b, "one tile twice in a product");
    check(tile(a).rows == tile(c).rows && tile(b).row_bytes == tile(c).row_bytes && tile(a).row_bytes == 4 * tile(b).rows, "shapes of a product");
  }

  bool configured_ = false;
  Tile tiles_[8];
};

}  // namespace deepseek::kernels
