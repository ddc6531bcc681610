// Weights as the kernels read them: 16 rows side by side, so that one vector holds a few columns of 16 outputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "hardware/huge_memory.h"

namespace deepseek::kernels {

constexpr int64_t kTileRows = 16;     // f32 lanes of a 512-bit register
constexpr int64_t kBlockColumns = 32; // columns that one scale of the activations covers

/// A type of weights. Integers of `bits` stand for scale * (q - zero), or scale * q - min where there are mins.
struct PackedFormat {
  int bits = 8;           ///< 4, 5, 6 or 8 for integers, 16 for bf16, 32 for f32
  int block = 32;         ///< columns that share a scale: 16 or 32
  int zero = 128;         ///< 0 where there are mins
  bool mins = false;
  bool super = false;     ///< scale = d * s, with d in f16 for 256 columns and s an 8-bit integer for each block; so do mins
  [[nodiscard]] bool is_integer() const { return bits <= 8; }
  /// Columns that one call of PackedMatrix::set_group fills.
  [[nodiscard]] int64_t group() const { return super ? 256 : kBlockColumns; }
  bool operator==(const PackedFormat&) const = default;
};

/// GGUF's types at their exact values, and what this project makes itself.
namespace packed_formats {
constexpr PackedFormat kQ4_0{4, 32, 8, false, false}, kQ4_1{4, 32, 0, true, false};
constexpr PackedFormat kQ5_0{5, 32, 16, false, false}, kQ5_1{5, 32, 0, true, false};
constexpr PackedFormat kQ8_0{8, 32, 128, false, false};
constexpr PackedFormat kQ4_K{4, 32, 0, true, true}, kQ5_K{5, 32, 0, true, true}, kQ6_K{6, 16, 32, false, true};
constexpr PackedFormat kBF16{16, 32, 0, false, false}, kF32{32, 32, 0, false, false};
}  // namespace packed_formats

/// What is known of one row in the columns of one group, before packing.
struct GroupValues {
  uint8_t q[256] = {};                ///< the first group() of them; 8-bit ones have zero = 128
  uint16_t d = 0, dmin = 0;      ///< f16 bits; dmin only where there are mins
  int8_t scales[16] = {};        ///< one for each block, where super
  int8_t mins[16] = {};
};

/// [rows, columns]. Rows are padded to a multiple of 16 and columns to one of 64 (256 where super), with zeros. Layout: see packed.cc.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Owns zeros.
  PackedMatrix(PackedFormat format, int64_t rows, int64_t columns);
  /// Over bytes that lie elsewhere (a mapped cache) and outlive it; bytes.size() == byte_count(), 64-byte aligned.
  PackedMatrix(PackedFormat format, int64_t rows, int64_t columns, std::span<const std::byte> bytes);

  [[nodiscard]] static uint64_t byte_count(const PackedFormat& format, int64_t rows, int64_t columns);

  /// Integers: columns [group * format().group(), ...) of the 16 rows of a tile. Rows beyond the last have d = dmin = 0.
  void set_group(int64_t tile, int64_t group, const GroupValues (&rows)[kTileRows]);
  /// bf16 and f32: all columns of `row`; bf16 rounds to nearest even.
  void set_row(int64_t row, std::span<const float> values);
  /// The values of one row as f32: [columns].
  void row(int64_t row, std::span<float> out) const;

  [[nodiscard]] const PackedFormat& format() const { return format_; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t columns() const { return columns_; }
  [[nodiscard]] int64_t tiles() const { return (rows_ + kTileRows - 1) / kTileRows; }
  [[nodiscard]] int64_t blocks() const { return blocks_; }  ///< of 32 columns, padding included
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// Where the scales that cover a block of 32 columns begin (where super: those of its 256 columns), and where its values do.
  [[nodiscard]] const uint8_t* scales(int64_t tile, int64_t block) const {
    return base() + tile * tile_bytes_ + block / panel_blocks_ * panel_bytes_ + (format_.super ? 0 : block % panel_blocks_ * group_scale_bytes_);
  }
  [[nodiscard]] const uint8_t* values(int64_t tile, int64_t block) const {
    return base() + tile * tile_bytes_ + block / panel_blocks_ * panel_bytes_ + panel_scale_bytes_ + block % panel_blocks_ * format_.bits * 64;
  }

 private:
  [[nodiscard]] const uint8_t* base() const { return reinterpret_cast<const uint8_t*>(bytes_.data()); }
  void measure();

  PackedFormat format_;
  int64_t rows_ = 0, columns_ = 0, blocks_ = 0, panel_blocks_ = 1, group_scale_bytes_ = 0, panel_scale_bytes_ = 0, panel_bytes_ = 0, tile_bytes_ = 0;
  hardware::HugeMemory owned_;
  std::span<const std::byte> bytes_;
};

/// f16 bits as f32.
[[nodiscard]] float f16_to_f32(uint16_t bits);

}  // namespace deepseek::kernels
