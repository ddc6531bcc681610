#include "formats/weights/quant_fields.h"

#include <cstring>

namespace deepseek::formats {
namespace {

uint16_t half_at(const uint8_t* in) {
  uint16_t bits;
  std::memcpy(&bits, in, sizeof(bits));
  return bits;
}

void nibbles(const uint8_t* in, uint8_t* q, int count) {
  for (int i = 0; i < count; ++i) {
    q[i] = in[i] & 15;
    q[i + count] = in[i] >> 4;
  }
}

void fifth_bits(uint32_t bits, uint8_t* q) {
  for (int i = 0; i < 32; ++i) q[i] = static_cast<uint8_t>(q[i] | (bits >> i & 1) << 4);
}

// Eight 6-bit scales and eight 6-bit minimums in 12 bytes.
void scales_of_k(const uint8_t* packed, QuantFields& out) {
  for (int i = 0; i < 4; ++i) {
    out.scales[i] = static_cast<int8_t>(packed[i] & 63);
    out.mins[i] = static_cast<int8_t>(packed[i + 4] & 63);
    out.scales[i + 4] = static_cast<int8_t>((packed[i + 8] & 15) | (packed[i] >> 2 & 48));
    out.mins[i + 4] = static_cast<int8_t>((packed[i + 8] >> 4) | (packed[i + 4] >> 2 & 48));
  }
}

void read_q6_k(const uint8_t* in, QuantFields& out) {
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t high = in[128 + 32 * half + i];
      for (int quarter = 0; quarter < 4; ++quarter) {
        const uint8_t low = in[64 * half + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
        out.q[128 * half + 32 * quarter + i] = static_cast<uint8_t>(low | (high >> (2 * quarter) & 3) << 4);
      }
    }
  }
  std::memcpy(out.scales, in + 192, 16);
  out.d = half_at(in + 208);
}

void put_nibbles(const uint8_t* q, uint8_t* out, int count) {
  for (int i = 0; i < count; ++i) out[i] = static_cast<uint8_t>((q[i] & 15) | q[i + count] << 4);
}

uint32_t take_fifth_bits(const uint8_t* q) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(q[i] >> 4 & 1) << i;
  return bits;
}

void put_scales_of_k(const QuantFields& f, uint8_t* packed) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>((f.scales[i] & 63) | (f.scales[i + 4] & 48) << 2);
    packed[i + 4] = static_cast<uint8_t>((f.mins[i] & 63) | (f.mins[i + 4] & 48) << 2);
    packed[i + 8] = static_cast<uint8_t>((f.scales[i + 4] & 15) | (f.mins[i + 4] & 15) << 4);
  }
}

void write_q6_k(const QuantFields& f, uint8_t* out) {
  std::memset(out, 0, 192);
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        const uint8_t q = f.q[128 * half + 32 * quarter + i];
        uint8_t &low = out[64 * half + quarter % 2 * 32 + i], &high = out[128 + 32 * half + i];
        low = static_cast<uint8_t>(low | (q & 15) << (quarter / 2 * 4));
        high = static_cast<uint8_t>(high | (q >> 4 & 3) << (2 * quarter));
      }
    }
  }
  std::memcpy(out + 192, f.scales, 16);
  std::memcpy(out + 208, &f.d, 2);
}

}  // namespace

bool has_quant_fields(DType type) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K: return true;
    default: return false;
  }
}

void read_quant_fields(DType type, const std::byte* block, QuantFields& out) {
  const auto* in = reinterpret_cast<const uint8_t*>(block);
  uint32_t high = 0;
  if (type == DType::kQ6_K) return read_q6_k(in, out);
  out.d = half_at(in);
  if (type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ4_K || type == DType::kQ5_K) out.dmin = half_at(in + 2);
  switch (type) {
    case DType::kQ4_0: return nibbles(in + 2, out.q, 16);
    case DType::kQ4_1: return nibbles(in + 4, out.q, 16);
    case DType::kQ5_0:
      nibbles(in + 6, out.q, 16);
      std::memcpy(&high, in + 2, 4);
      return fifth_bits(high, out.q);
    case DType::kQ5_1:
      nibbles(in + 8, out.q, 16);
      std::memcpy(&high, in + 4, 4);
      return fifth_bits(high, out.q);
    case DType::kQ8_0:
      for (int i = 0; i < 32; ++i) out.q[i] = static_cast<uint8_t>(in[2 + i] ^ 0x80);
      return;
    case DType::kQ4_K:
    case DType::kQ5_K:
      scales_of_k(in + 4, out);
      for (int pair = 0; pair < 4; ++pair) nibbles(in + (type == DType::kQ4_K ? 16 : 48) + 32 * pair, out.q + 64 * pair, 32);
      for (int i = 0; type == DType::kQ5_K && i < 256; ++i) out.q[i] = static_cast<uint8_t>(out.q[i] | (in[16 + i % 32] >> i / 32 & 1) << 4);
      return;
    default: return;
  }
}

void write_quant_fields(DType type, const QuantFields& f, std::byte* block) {
  auto* out = reinterpret_cast<uint8_t*>(block);
  if (type == DType::kQ6_K) return write_q6_k(f, out);
  std::memcpy(out, &f.d, 2);
  const uint32_t high = take_fifth_bits(f.q);
  if (type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ4_K || type == DType::kQ5_K) std::memcpy(out + 2, &f.dmin, 2);
  switch (type) {
    case DType::kQ4_0: return put_nibbles(f.q, out + 2, 16);
    case DType::kQ4_1: return put_nibbles(f.q, out + 4, 16);
    case DType::kQ5_0:
      std::memcpy(out + 2, &high, 4);
      return put_nibbles(f.q, out + 6, 16);
    case DType::kQ5_1:
      std::memcpy(out + 4, &high, 4);
      return put_nibbles(f.q, out + 8, 16);
    case DType::kQ8_0:
      for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<uint8_t>(f.q[i] ^ 0x80);
      return;
    case DType::kQ4_K:
    case DType::kQ5_K:
      put_scales_of_k(f, out + 4);
      for (int pair = 0; pair < 4; ++pair) put_nibbles(f.q + 64 * pair, out + (type == DType::kQ4_K ? 16 : 48) + 32 * pair, 32);
      if (type == DType::kQ4_K) return;
      std::memset(out + 16, 0, 32);
      for (int i = 0; i < 256; ++i) out[16 + i % 32] = static_cast<uint8_t>(out[16 + i % 32] | (f.q[i] >> 4 & 1) << i / 32);
      return;
    default: return;
  }
}

}  // namespace deepseek::formats
