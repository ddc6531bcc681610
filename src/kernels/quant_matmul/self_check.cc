// A product of each kind beside the reference, with numbers that leave nothing to round: every correct kernel gives the same bits.
#include <vector>

#include "hardware/huge_memory.h"
#include "kernels/quant_matmul/implementations.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kRows = 35, kColumns = 90, kTokens = 37;  // whole tiles and parts of them in every direction
constexpr uint16_t kOne = 0x3C00;                           // f16

// Integers from -3 to 3, of no period that a tile has.
int64_t small(int64_t i, int64_t j) { return (i * 5 + j * 3 + i * j % 11) % 7 - 3; }

PackedMatrix weights(const PackedFormat& format) {
  PackedMatrix w(format, kRows, kColumns);
  std::vector<float> row(kColumns);
  for (int64_t r = 0; r < kRows && !format.is_integer(); ++r) {
    for (int64_t c = 0; c < kColumns; ++c) row[static_cast<size_t>(c)] = static_cast<float>(small(r, c));
    w.set_row(r, row);
  }
  for (int64_t tile = 0; tile < w.tiles() && format.is_integer(); ++tile) {
    for (int64_t g = 0; g * format.group() < kColumns; ++g) {
      GroupValues values[kTileRows];
      for (int64_t r = 0; r < kTileRows && tile * kTileRows + r < kRows; ++r) {
        GroupValues& v = values[r];
        v.d = v.dmin = kOne;
        for (int i = 0; i < 16; ++i) {
          v.scales[i] = static_cast<int8_t>(small(i, r));
          v.mins[i] = static_cast<int8_t>(small(r, i));
        }
        for (int64_t c = 0; c < format.group(); ++c) v.q[c] = static_cast<uint8_t>(small(tile * kTileRows + r, g * format.group() + c) + (format.mins ? 3 : format.zero));
      }
      w.set_group(tile, g, values);
    }
  }
  return w;
}

// A block that holds 127 is rounded to its own integers.
PackedRows activations(const PackedFormat& format, int64_t width) {
  PackedRows x;
  x.resize(PackedRows::kind_of_weights(format), kTokens, kColumns, width);
  std::vector<float> values(kColumns);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t c = 0; c < kColumns; ++c) values[static_cast<size_t>(c)] = c % kBlockColumns == t % 26 ? 127.0f : static_cast<float>(9 * small(c, t));
    x.set(t, values.data());
  }
  return x;
}

}  // namespace

bool equals_reference(const MatmulKernel& kernel) {
  using namespace packed_formats;
  for (const PackedFormat& format : {kQ8_0, kQ4_1, kQ6_K, kQ5_K, kBF16}) {
    const PackedMatrix w = weights(format);
    const PackedRows x = activations(format, kernel.width);
    const auto scratch = hardware::allocate_huge(static_cast<size_t>(matmul_scratch_bytes(w)));
    std::vector<float> expected(kTokens * kRows), got(kTokens * kRows, -1.0f);
    multiply_reference(w, x, 0, w.tiles(), expected.data(), kRows, nullptr);
    kernel.multiply(w, x, 0, w.tiles(), got.data(), kRows, reinterpret_cast<uint8_t*>(scratch.get()));
    if (got != expected) return false;
  }
  return true;
}

}  // namespace deepseek::kernels
