#include "kernels/quant_matmul/quant_matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "hardware/cpu.h"
#include "kernels/bf16_product/bf16_product.h"
#include "kernels/choose.h"
#include "kernels/quant_matmul/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

// bf16 weights widened in registers, and activations in f32.
bool widens_bf16() {
  static const bool does = [] {
    const auto& f = hardware::cpu().features;
    return f.avx512f && f.avx512bw && f.avx512vl && !bf16_products_pay();
  }();
  return does;
}

std::string never(const PackedFormat&) { return ""; }

std::string without_avx2(const PackedFormat&) {
  const auto& f = hardware::cpu().features;
  return f.avx2 && f.fma && f.f16c ? "" : "the processor has no AVX2 with FMA and F16C";
}

std::string without_avx512(const PackedFormat& format) {
  const auto& f = hardware::cpu().features;
  if (!(f.avx512f && f.avx512bw && f.avx512vl)) return "the processor has no AVX-512";
  if (format.is_integer() && !f.avx512_vnni) return "the processor has no AVX-512 VNNI";
  if (format.bits == 16 && !f.avx512_bf16 && !widens_bf16()) return "the processor has no AVX-512 BF16";
  return "";
}

#if defined(__x86_64__)
std::string without_tiles() {
  if (!hardware::request_amx()) return "the kernel refused the tiles (arch_prctl)";
  return equals_reference({"amx", nullptr, multiply_amx, kTileRows}) ? "" : "AMX gave wrong results in its self-check";
}

std::string without_amx(const PackedFormat& format) {
  const auto& f = hardware::cpu().features;
  if (!f.amx_int8) return "the processor has no AMX int8";
  if (!f.amx_bf16) return "the processor has no AMX bf16";
  if (std::string reason = without_avx512(format); !reason.empty()) return reason;
  static const std::string reason = without_tiles();  // checked once
  return reason;
}
#endif

constexpr std::array kKernels{
#if defined(__x86_64__)
    MatmulKernel{"amx", without_amx, multiply_amx, kTileRows},
    MatmulKernel{"avx512", without_avx512, multiply_avx512},
    MatmulKernel{"avx2", without_avx2, multiply_avx2},
#endif
    MatmulKernel{"reference", never, multiply_reference},
};

// Largest magnitude; NaN or infinity where the 32 values hold one. As integers, magnitudes are in the same order.
DEEPSEEK_VECTOR_CLONES float magnitude(const float* x) {
  int32_t most = 0;
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    const int32_t size = std::bit_cast<int32_t>(x[i]) & 0x7FFFFFFF;
    most = size > most ? size : most;
  }
  return std::bit_cast<float>(most);
}

DEEPSEEK_VECTOR_CLONES void round_block(const float* x, float inverse, int8_t* q) {
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    const float shifted = x[i] * inverse + 12582912.0f;  // adding 1.5 * 2^23 rounds to the nearest integer
    q[i] = static_cast<int8_t>(std::bit_cast<int32_t>(shifted) - 0x4B400000);
  }
}

DEEPSEEK_VECTOR_CLONES int32_t sum_of_16(const int8_t* q) {
  int32_t sum = 0;
  for (int64_t i = 0; i < 16; ++i) sum += q[i];
  return sum;
}

}  // namespace

PackedRows::Kind PackedRows::kind_for(const PackedFormat& format) {
  if (format.bits == 16 && widens_bf16()) return Kind::kF32;
  return kind_of_weights(format);
}

PackedRows::Kind PackedRows::kind_of_weights(const PackedFormat& format) {
  return format.is_integer() ? Kind::kInt8 : format.bits == 16 ? Kind::kBF16 : Kind::kF32;
}

void PackedRows::resize(Kind kind, int64_t tokens, int64_t columns, int64_t most) {
  const int64_t blocks = (columns + 255) / 256 * 8;  // super formats pad to 256 columns
  const int64_t width = std::clamp<int64_t>(tokens, 1, kind == Kind::kF32 ? kMostWidth : most);
  if (kind == kind_ && tokens == tokens_ && columns == columns_ && width == width_) return;
  kind_ = kind;
  tokens_ = tokens;
  columns_ = columns;
  blocks_ = blocks;
  width_ = width;
  group_bytes_ = blocks * kBlockColumns * width * (kind == Kind::kInt8 ? 1 : kind == Kind::kBF16 ? 2 : 4);
  // Padding columns must be zeros, and so must the tokens that fill the last group.
  values_.assign(static_cast<size_t>(groups() * group_bytes_), 0);
  if (kind != Kind::kInt8) return;
  const auto count = static_cast<size_t>(groups() * blocks * width);
  units_.assign(count + 16, 0);  // 16 are read at once
  sums_.assign(count + 16, 0);
  starts_.assign(count, 0);
  half_starts_.assign(2 * count, 0);
}

void PackedRows::set(int64_t token, const float* x) {
  if (kind_ == Kind::kInt8) return set_int8(token, x);
  uint8_t* group = values(token / width_);
  const int64_t lane = token % width_;
  for (int64_t c = 0; c < columns_; ++c) {
    if (kind_ == Kind::kF32) {
      std::memcpy(group + (c * width_ + lane) * 4, x + c, 4);
    } else {
      const uint16_t bits = f32_to_bf16(x[c]);
      std::memcpy(group + (c / 2 * width_ + lane) * 4 + c % 2 * 2, &bits, 2);
    }
  }
}

void PackedRows::set_int8(int64_t token, const float* x) {
  const int64_t group = token / width_, lane = token % width_, first = group * blocks_;
  uint8_t* to = values(group) + lane * 4;
  float tail[kBlockColumns];
  for (int64_t b = 0; b * kBlockColumns < columns_; ++b) {
    const float* from = x + b * kBlockColumns;
    if ((b + 1) * kBlockColumns > columns_) {
      std::fill(std::copy(from, x + columns_, tail), tail + kBlockColumns, 0.0f);
      from = tail;
    }
    float unit = magnitude(from) / 127.0f;
    if (unit < 1e-37f) unit = 0;  // its inverse would be infinite
    if (!(unit < std::numeric_limits<float>::infinity())) unit = std::numeric_limits<float>::quiet_NaN();
    alignas(32) int8_t q[kBlockColumns];
    round_block(from, unit > 0 ? 1.0f / unit : 0.0f, q);
    const int32_t low = sum_of_16(q), high = sum_of_16(q + 16);
    for (int64_t k = 0; k < 8; ++k) std::memcpy(to + (b * 8 + k) * width_ * 4, q + 4 * k, 4);
    units_[static_cast<size_t>((first + b) * width_ + lane)] = unit;
    sums_[static_cast<size_t>((first + b) * width_ + lane)] = unit * static_cast<float>(low + high);
    starts_[static_cast<size_t>((first + b) * width_ + lane)] = -128 * (low + high);
    half_starts_[static_cast<size_t>((2 * (first + b)) * width_ + lane)] = -128 * low;
    half_starts_[static_cast<size_t>((2 * (first + b) + 1) * width_ + lane)] = -128 * high;
  }
}

float PackedRows::value(int64_t token, int64_t column) const {
  const int64_t group = token / width_, lane = token % width_;
  const uint8_t* from = values(group);
  if (kind_ == Kind::kInt8) {
    const auto q = static_cast<int8_t>(from[(column / 4 * width_ + lane) * 4 + column % 4]);
    return static_cast<float>(q) * units(group)[column / kBlockColumns * width_ + lane];
  }
  if (kind_ == Kind::kF32) {
    float value;
    std::memcpy(&value, from + (column * width_ + lane) * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from + (column / 2 * width_ + lane) * 4 + column % 2 * 2, 2);
  return bf16_to_f32(bits);
}

std::span<const MatmulKernel> matmul_kernels() { return kKernels; }

base::Result<const MatmulKernel*> choose_matmul(const PackedFormat& format) { return choose_kernel(matmul_kernels(), format); }

int64_t matmul_scratch_bytes(const PackedMatrix& w) {
  // A tile as 8-bit cells, with f32 scales for each 16 columns and f32 mins for each 32.
  if (w.format().is_integer()) return w.blocks() * (kBlockColumns * kTileRows + 3 * kTileRows * 4);
  return w.format().bits == 16 ? w.blocks() * 2 * kBlockColumns * kTileRows * 2 : 0;  // two tiles
}

}  // namespace deepseek::kernels
