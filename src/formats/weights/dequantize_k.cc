// Decoders of ggml's k-quants: super-blocks of 256 weights whose sub-blocks have small integer scales.
#include "formats/weights/dequantize.h"

namespace deepseek::formats {
namespace {

constexpr int kSuper = 256;

// Q4_K and Q5_K pack eight 6-bit scales and eight 6-bit minimums into 12 bytes.
struct ScalesAndMinimums {
  float scale[8];
  float minimum[8];
};

ScalesAndMinimums unpack_scales(const uint8_t* in) {
  const float d = load_f16(in), d_min = load_f16(in + 2);
  const uint8_t* packed = in + 4;
  ScalesAndMinimums s;
  for (int i = 0; i < 4; ++i) {
    s.scale[i] = d * static_cast<float>(packed[i] & 63);
    s.minimum[i] = d_min * static_cast<float>(packed[i + 4] & 63);
    s.scale[i + 4] = d * static_cast<float>((packed[i + 8] & 15) | (packed[i] >> 2 & 48));
    s.minimum[i + 4] = d_min * static_cast<float>((packed[i + 8] >> 4) | (packed[i + 4] >> 2 & 48));
  }
  return s;
}

}  // namespace

// 16 bytes of (scale | minimum << 4), 64 bytes of 2-bit values, f16 scale, f16 minimum.
void decode_q2_k(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 84, out += kSuper) {
    const float d = load_f16(in + 80), d_min = load_f16(in + 82);
    for (int group = 0; group < 16; ++group) {
      const uint8_t* q = in + 16 + group / 8 * 32 + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      const float scale = d * static_cast<float>(in[group] & 15);
      const float minimum = d_min * static_cast<float>(in[group] >> 4);
      for (int i = 0; i < 16; ++i) out[16 * group + i] = scale * static_cast<float>(q[i] >> shift & 3) - minimum;
    }
  }
}

// 32 bytes of inverted third bits, 64 bytes of 2-bit values, 16 6-bit scales in 12 bytes, f16 scale.
void decode_q3_k(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 110, out += kSuper) {
    const uint8_t* scales = in + 96;
    const float d = load_f16(in + 108);
    for (int group = 0; group < 16; ++group) {
      const uint8_t* q = in + 32 + group / 8 * 32 + group % 2 * 16;
      const uint8_t* high = in + group % 2 * 16;
      const int shift = group % 8 / 2 * 2, high_bit = group / 2;
      const int low_scale = scales[group % 8] >> group / 8 * 4 & 15;
      const int high_scale = scales[8 + group % 4] >> group / 4 * 2 & 3;
      const float scale = d * static_cast<float>((low_scale | high_scale << 4) - 32);
      for (int i = 0; i < 16; ++i) {
        const int value = (q[i] >> shift & 3) + (high[i] >> high_bit & 1) * 4 - 4;
        out[16 * group + i] = scale * static_cast<float>(value);
      }
    }
  }
}

// f16 scale, f16 minimum, packed scales, 128 bytes of nibbles: each 32 bytes hold two sub-blocks.
void decode_q4_k(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 144, out += kSuper) {
    const auto s = unpack_scales(in);
    for (int pair = 0; pair < 4; ++pair) {
      const uint8_t* q = in + 16 + 32 * pair;
      float* __restrict low = out + 64 * pair;
      float* __restrict high = low + 32;
      const float low_scale = s.scale[2 * pair], low_min = s.minimum[2 * pair];
      const float high_scale = s.scale[2 * pair + 1], high_min = s.minimum[2 * pair + 1];
      for (int i = 0; i < 32; ++i) low[i] = low_scale * static_cast<float>(q[i] & 15) - low_min;
      for (int i = 0; i < 32; ++i) high[i] = high_scale * static_cast<float>(q[i] >> 4) - high_min;
    }
  }
}

// As Q4_K with 32 bytes of fifth bits (bit = sub-block) before the nibbles.
void decode_q5_k(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 176, out += kSuper) {
    const auto s = unpack_scales(in);
    const uint8_t* fifth = in + 16;
    for (int group = 0; group < 8; ++group) {
      const uint8_t* q = in + 48 + group / 2 * 32;
      const int shift = group % 2 * 4;
      const float scale = s.scale[group], minimum = s.minimum[group];
      for (int i = 0; i < 32; ++i) {
        const int value = (q[i] >> shift & 15) | (fifth[i] >> group & 1) << 4;
        out[32 * group + i] = scale * static_cast<float>(value) - minimum;
      }
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, f16 scale.
void decode_q6_k(const uint8_t* __restrict in, size_t blocks, float* __restrict out) {
  for (size_t b = 0; b < blocks; ++b, in += 210, out += kSuper) {
    const float d = load_f16(in + 208);
    for (int group = 0; group < 16; ++group) {
      const int half = group / 8, quarter = group % 8 / 2, side = group % 2 * 16;
      const uint8_t* low = in + 64 * half + quarter % 2 * 32 + side;
      const uint8_t* high = in + 128 + 32 * half + side;
      const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
      const float scale = d * static_cast<float>(static_cast<int8_t>(in[192 + group]));
      for (int i = 0; i < 16; ++i) {
        const int value = ((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32;
        out[16 * group + i] = scale * static_cast<float>(value);
      }
    }
  }
}

}  // namespace deepseek::formats
