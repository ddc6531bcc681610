#include "formats/weights/dequantize.h"

#include "formats/weights/tensor_file.h"
#include "formats/weights/tensor_layout.h"

namespace deepseek::formats {
namespace {

constexpr int kBlock = 32;

template <typename T>
void decode_plain(const uint8_t* in, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(load<T>(in + i * sizeof(T)));
}

void decode_f32(const uint8_t* in, size_t count, float* out) {
  if (count > 0) std::memcpy(out, in, count * sizeof(float));
}

void decode_f16(const uint8_t* in, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = f16_to_f32(load<uint16_t>(in + 2 * i));
}

void decode_bf16(const uint8_t* in, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = bf16_to_f32(load<uint16_t>(in + 2 * i));
}

// Q4_0: f16 scale, 16 bytes; low nibbles are the first half of the block, high nibbles the second.
void decode_q4_0(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 18, out += kBlock) {
    const float d = load_f16(in);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>((in[2 + i] & 15) - 8);
      out[i + 16] = d * static_cast<float>((in[2 + i] >> 4) - 8);
    }
  }
}

// Q4_1: as Q4_0 with an f16 minimum after the scale instead of the offset of 8.
void decode_q4_1(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 20, out += kBlock) {
    const float d = load_f16(in), m = load_f16(in + 2);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(in[4 + i] & 15) + m;
      out[i + 16] = d * static_cast<float>(in[4 + i] >> 4) + m;
    }
  }
}

// Q5_0: f16 scale, 32 fifth bits, 16 bytes of nibbles.
void decode_q5_0(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 22, out += kBlock) {
    const float d = load_f16(in);
    const auto high = load<uint32_t>(in + 2);
    for (uint32_t i = 0; i < 16; ++i) {
      const auto low = static_cast<int>((in[6 + i] & 15u) | ((high >> i) & 1) << 4);
      const auto top = static_cast<int>((in[6 + i] >> 4u) | ((high >> (i + 16)) & 1) << 4);
      out[i] = d * static_cast<float>(low - 16);
      out[i + 16] = d * static_cast<float>(top - 16);
    }
  }
}

// Q5_1: as Q5_0 with an f16 minimum after the scale instead of the offset of 16.
void decode_q5_1(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 24, out += kBlock) {
    const float d = load_f16(in), m = load_f16(in + 2);
    const auto high = load<uint32_t>(in + 4);
    for (uint32_t i = 0; i < 16; ++i) {
      const auto low = static_cast<int>((in[8 + i] & 15u) | ((high >> i) & 1) << 4);
      const auto top = static_cast<int>((in[8 + i] >> 4u) | ((high >> (i + 16)) & 1) << 4);
      out[i] = d * static_cast<float>(low) + m;
      out[i + 16] = d * static_cast<float>(top) + m;
    }
  }
}

// Q8_0: f16 scale, 32 signed bytes.
void decode_q8_0(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 34, out += kBlock) {
    const float d = load_f16(in);
    for (int i = 0; i < kBlock; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(in[2 + i]));
  }
}

DecodeBlocks decoder_of(DType type) {
  switch (type) {
    case DType::kF64: return decode_plain<double>;
    case DType::kF32: return decode_f32;
    case DType::kF16: return decode_f16;
    case DType::kBF16: return decode_bf16;
    case DType::kI8: return decode_plain<int8_t>;
    case DType::kU8: return decode_plain<uint8_t>;
    case DType::kQ4_0: return decode_q4_0;
    case DType::kQ4_1: return decode_q4_1;
    case DType::kQ5_0: return decode_q5_0;
    case DType::kQ5_1: return decode_q5_1;
    case DType::kQ8_0: return decode_q8_0;
    case DType::kQ2_K: return decode_q2_k;
    case DType::kQ3_K: return decode_q3_k;
    case DType::kQ4_K: return decode_q4_k;
    case DType::kQ5_K: return decode_q5_k;
    case DType::kQ6_K: return decode_q6_k;
    case DType::kI64:
    case DType::kI32:
    case DType::kI16:
    case DType::kBool: return nullptr;
  }
  return nullptr;
}

}  // namespace

base::Status dequantize(const TensorInfo& info, std::span<float> out) {
  if (static_cast<int64_t>(out.size()) != info.elements()) {
    return base::fail("tensor {}: {} values do not fit in room for {}", shown_name(info.name), info.elements(), out.size());
  }
  return dequantize_range(info, 0, out);
}

base::Status dequantize_range(const TensorInfo& info, int64_t begin, std::span<float> out) {
  const DecodeBlocks decode = decoder_of(info.type);
  if (decode == nullptr) {
    return base::fail("tensor {}: type {} holds no weights that can be read as floating point", shown_name(info.name),
                      dtype_name(info.type));
  }
  const auto expected = byte_count(info.type, info.shape);
  if (!expected || *expected != info.bytes.size()) {
    return base::fail("tensor {}: {} bytes do not match type {} and shape {}", shown_name(info.name), info.bytes.size(),
                      dtype_name(info.type), shape_text(info.shape));
  }
  const auto block = block_size(info.type);
  const auto size = static_cast<int64_t>(out.size());
  if (begin < 0 || begin > info.elements() || size > info.elements() - begin || begin % block.elements != 0 ||
      size % block.elements != 0) {
    return base::fail("tensor {}: elements {} to {} are outside its {} elements or cut a block of {}", shown_name(info.name),
                      begin, begin + size, info.elements(), block.elements);
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(info.bytes.data());
  decode(bytes + begin / block.elements * block.bytes, static_cast<size_t>(size / block.elements), out.data());
  return {};
}

}  // namespace deepseek::formats
