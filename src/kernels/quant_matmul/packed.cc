#include "kernels/quant_matmul/packed.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "kernels/simd.h"

// Everything that a product reads lies in one stream: a memory's own prefetcher follows nothing else (a jump of 640 bytes for each
// tile costs a third of the bandwidth, measured on Zen 4). A tile of 16 rows is a row of panels, 64 columns wide (256 where super), and a
// panel is [scales][values], both multiples of 64 bytes.
// Scales: for each block of 32 columns d[16] in f16, then m[16] where there are mins; where super d[16], dmin[16] where there are mins,
// s[blocks][16], m[blocks][16] where there are mins.
// Values: for each 32 columns, a cell is 4 columns of 16 rows, row by row, 64 bytes. 8 bits: cells 0 to 7. 4 bits: cell 2p in the low
// half and 2p+1 in the high half of 64 bytes. 5 bits: and 64 bytes whose bit j is the fifth of cell j. 6 bits: and 2 x 64 bytes,
// two bits for each of cells 0 to 3 and 4 to 7. bf16: cells of 2 columns; f32: of one.
namespace deepseek::kernels {
namespace {

constexpr int64_t kAlignment = 64, kSuperColumns = 256;

int64_t padded(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

int64_t group_scale_bytes(const PackedFormat& f) {
  if (!f.is_integer()) return 0;
  const int64_t with_mins = f.mins ? 2 : 1;
  return with_mins * (f.super ? 32 + kSuperColumns / f.block * kTileRows : 32);
}

// Where a value lies in the 32 columns of its tile.
struct Cell {
  int64_t index, byte;
};
Cell cell_of(int64_t row, int64_t column) { return {column / 4, row * 4 + column % 4}; }

// 32 columns of 16 rows, q(row) pointing at the first of each.
template <typename Row>
void put(uint8_t* block, int bits, const Row& q) {
  alignas(64) uint8_t cells[8][64];
  for (int64_t k = 0; k < 8; ++k) {
    for (int64_t r = 0; r < kTileRows; ++r) std::memcpy(cells[k] + 4 * r, q(r) + 4 * k, 4);
  }
  if (bits == 8) {
    std::memcpy(block, cells, sizeof(cells));
    return;
  }
  for (int64_t p = 0; p < 4; ++p) {
    for (int64_t i = 0; i < 64; ++i) block[p * 64 + i] = static_cast<uint8_t>((cells[2 * p][i] & 15) | cells[2 * p + 1][i] << 4);
  }
  uint8_t* high = block + 256;
  for (int64_t i = 0; bits == 5 && i < 64; ++i) {
    uint8_t all = 0;
    for (int k = 0; k < 8; ++k) all = static_cast<uint8_t>(all | (cells[k][i] >> 4 & 1) << k);
    high[i] = all;
  }
  for (int64_t i = 0; bits == 6 && i < 128; ++i) {
    uint8_t all = 0;
    for (int k = 0; k < 4; ++k) all = static_cast<uint8_t>(all | (cells[i / 64 * 4 + k][i % 64] >> 4 & 3) << (2 * k));
    high[i] = all;
  }
}

uint8_t take(const uint8_t* block, int bits, Cell cell) {
  if (bits == 8) return block[cell.index * 64 + cell.byte];
  uint8_t q = block[cell.index / 2 * 64 + cell.byte] >> (cell.index % 2 == 0 ? 0 : 4) & 0x0F;
  if (bits == 5) q |= static_cast<uint8_t>((block[256 + cell.byte] >> cell.index & 1) << 4);
  if (bits == 6) q |= static_cast<uint8_t>((block[256 + cell.index / 4 * 64 + cell.byte] >> (cell.index % 4 * 2) & 3) << 4);
  return q;
}

uint16_t half_at(const uint8_t* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return bits;
}

}  // namespace

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, rest = bits & 0x7FFFu;
  if (rest >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
  // A subnormal is its fraction times 2^-24; others move to f32's exponent.
  if (rest < 0x400u) return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-24f));
  return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
}

uint64_t PackedMatrix::byte_count(const PackedFormat& format, int64_t rows, int64_t columns) {
  PackedMatrix shape;
  shape.format_ = format;
  shape.rows_ = rows;
  shape.columns_ = columns;
  shape.measure();
  return static_cast<uint64_t>(shape.tile_bytes_ * shape.tiles());
}

void PackedMatrix::measure() {
  const int64_t panel_columns = format_.super ? kSuperColumns : 64, groups = panel_columns / format_.group();
  const int64_t panels = (columns_ + panel_columns - 1) / panel_columns;
  panel_blocks_ = panel_columns / kBlockColumns;
  blocks_ = panels * panel_blocks_;
  group_scale_bytes_ = group_scale_bytes(format_);
  panel_scale_bytes_ = padded(groups * group_scale_bytes_, kAlignment);
  panel_bytes_ = panel_scale_bytes_ + panel_columns * kTileRows * format_.bits / 8;
  tile_bytes_ = panels * panel_bytes_;
}

PackedMatrix::PackedMatrix(PackedFormat format, int64_t rows, int64_t columns) : format_(format), rows_(rows), columns_(columns) {
  measure();
  const auto size = static_cast<size_t>(tile_bytes_ * tiles());
  owned_ = hardware::allocate_huge(size);
  std::memset(owned_.get(), 0, size);
  bytes_ = {owned_.get(), size};
}

PackedMatrix::PackedMatrix(PackedFormat format, int64_t rows, int64_t columns, std::span<const std::byte> bytes)
    : format_(format), rows_(rows), columns_(columns), bytes_(bytes) {
  measure();
  if (bytes.size() != static_cast<size_t>(tile_bytes_ * tiles()) || reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    throw std::invalid_argument("packed weights: the bytes do not fit the shape");
  }
}

void PackedMatrix::set_group(int64_t tile, int64_t group, const GroupValues (&rows)[kTileRows]) {
  const int64_t width = format_.group(), count = width / format_.block, block_bytes = kBlockColumns * kTileRows * format_.bits / 8;
  const int64_t first = group * width / kBlockColumns;
  auto* scale = const_cast<uint8_t*>(scales(tile, first));
  auto* block = const_cast<uint8_t*>(values(tile, first));
  uint8_t* small = scale + (format_.mins ? 64 : 32);
  for (int64_t r = 0; r < kTileRows; ++r) {
    std::memcpy(scale + 2 * r, &rows[r].d, 2);
    if (format_.mins) std::memcpy(scale + 32 + 2 * r, &rows[r].dmin, 2);
    for (int64_t b = 0; format_.super && b < count; ++b) {
      small[b * kTileRows + r] = static_cast<uint8_t>(rows[r].scales[b]);
      if (format_.mins) small[(count + b) * kTileRows + r] = static_cast<uint8_t>(rows[r].mins[b]);
    }
  }
  for (int64_t b = 0; b < width / kBlockColumns; ++b) {
    put(block + b * block_bytes, format_.bits, [&](int64_t r) { return rows[r].q + b * kBlockColumns; });
  }
}

void PackedMatrix::set_row(int64_t row, std::span<const float> values) {
  auto* tile = reinterpret_cast<uint8_t*>(owned_.get()) + row / kTileRows * tile_bytes_;
  const int64_t lane = row % kTileRows;
  for (int64_t c = 0; c < columns_; ++c) {
    if (format_.bits == 16) {
      const uint16_t bits = f32_to_bf16(values[static_cast<size_t>(c)]);
      std::memcpy(tile + (c / 2 * kTileRows + lane) * 4 + c % 2 * 2, &bits, 2);
    } else {
      std::memcpy(tile + (c * kTileRows + lane) * 4, &values[static_cast<size_t>(c)], 4);
    }
  }
}

void PackedMatrix::row(int64_t row, std::span<float> out) const {
  const int64_t tile = row / kTileRows, lane = row % kTileRows, width = format_.group();
  const uint8_t* cells = values(tile, 0);
  if (!format_.is_integer()) {
    for (int64_t c = 0; c < columns_; ++c) {
      if (format_.bits == 16) out[static_cast<size_t>(c)] = bf16_to_f32(half_at(cells + (c / 2 * kTileRows + lane) * 4 + c % 2 * 2));
      else std::memcpy(&out[static_cast<size_t>(c)], cells + (c * kTileRows + lane) * 4, 4);
    }
    return;
  }
  for (int64_t c = 0; c < columns_; ++c) {
    const uint8_t* scale = scales(tile, c / kBlockColumns);
    float d = f16_to_f32(half_at(scale + 2 * lane)), m = format_.mins ? f16_to_f32(half_at(scale + 32 + 2 * lane)) : 0.0f;
    if (format_.super) {
      const int64_t block = c % width / format_.block, count = width / format_.block;
      scale += format_.mins ? 64 : 32;
      d *= static_cast<float>(static_cast<int8_t>(scale[block * kTileRows + lane]));
      if (format_.mins) m *= static_cast<float>(static_cast<int8_t>(scale[(count + block) * kTileRows + lane]));
    }
    const uint8_t* block = values(tile, c / kBlockColumns);
    const int q = take(block, format_.bits, cell_of(lane, c % kBlockColumns));
    // GGUF's simple types add their min, the super ones subtract it.
    const float min = format_.super ? -m : m;
    out[static_cast<size_t>(c)] = d * static_cast<float>(q - format_.zero) + min;
  }
}

}  // namespace deepseek::kernels
