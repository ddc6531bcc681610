// AVX2: 16 outputs in two registers, up to 4 tokens at once.
#include <immintrin.h>

#include "kernels/quant_matmul/implementations.h"

namespace deepseek::kernels {
namespace {

constexpr int kMostTokens = 4;  // 4 tokens x 2 registers of int32 and of f32 fill the 16 registers

__m256 halves(const uint8_t* at) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))); }
__m256 bytes(const uint8_t* at) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)))); }
__m256i load(const uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

// A block of 32 columns: cells of unsigned values as they are stored (8 bits: signed), scales of its halves, mins.
struct Block {
  alignas(32) uint8_t cells[8][64];
  __m256 scales[2][2], mins[2];  // [half][rows 0-7 and 8-15]
};

void unpack_cells(const uint8_t* from, int bits, Block& block) {
  const __m256i low = _mm256_set1_epi8(0x0F);
  for (int r = 0; r < 64; r += 32) {
    for (int k = 0; k < 8; ++k) {
      __m256i q;
      if (bits == 8) {
        q = _mm256_xor_si256(load(from + k * 64 + r), _mm256_set1_epi8(static_cast<char>(0x80)));
      } else {
        const __m256i pair = load(from + k / 2 * 64 + r);
        q = _mm256_and_si256(k % 2 == 0 ? pair : _mm256_srli_epi16(pair, 4), low);
        if (bits == 5) {
          const __m256i high = _mm256_srli_epi16(load(from + 256 + r), k);
          q = _mm256_or_si256(q, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(1)), 4));
        } else if (bits == 6) {
          const __m256i high = _mm256_srli_epi16(load(from + 256 + k / 4 * 64 + r), k % 4 * 2);
          q = _mm256_or_si256(q, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4));
        }
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(block.cells[k] + r), q);
    }
  }
}

void unpack(const PackedMatrix& w, int64_t tile, int64_t b, Block& block) {
  const PackedFormat& f = w.format();
  unpack_cells(w.values(tile, b), f.bits, block);
  const int64_t halves_of = f.block == 16 ? 2 : 1;
  const uint8_t* at = w.scales(tile, b);
  for (int r = 0; r < 2; ++r) {
    const __m256 d = halves(at + 16 * r), dmin = f.mins ? halves(at + 32 + 16 * r) : _mm256_setzero_ps();
    for (int64_t h = 0; h < halves_of; ++h) {
      const uint8_t* s = at + (f.mins ? 64 : 32) + (b % 8 * halves_of + h) * 16 + 8 * r;
      block.scales[h][r] = f.super ? _mm256_mul_ps(d, bytes(s)) : d;
    }
    block.mins[r] = dmin;
    if (f.super && f.mins) {
      const uint8_t* m = at + 64 + 8 * 16 + b % 8 * 16 + 8 * r;
      block.mins[r] = _mm256_sub_ps(_mm256_setzero_ps(), _mm256_mul_ps(dmin, bytes(m)));
    }
  }
}

template <int Tokens>
void store(const __m256 (*sums)[2], float* out, int64_t stride, int64_t rows) {
  alignas(32) float row[16];
  for (int t = 0; t < Tokens; ++t) {
    _mm256_store_ps(row, sums[t][0]);
    _mm256_store_ps(row + 8, sums[t][1]);
    __builtin_memcpy(out + t * stride, row, static_cast<size_t>(rows < 16 ? rows : 16) * sizeof(float));
  }
}

template <int Tokens, bool Signed>
void integers(const PackedMatrix& w, const PackedRows& x, int64_t tile, int64_t group, int64_t lane, float* out, int64_t stride, int64_t rows) {
  const PackedFormat& f = w.format();
  const int64_t width = x.width();
  const int halves_of = f.block == 16 ? 2 : 1, cells = 8 / halves_of;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 total[Tokens][2];
  for (auto& sum : total) sum[0] = sum[1] = _mm256_setzero_ps();
  Block block;
  for (int64_t b = 0; b < w.blocks(); ++b) {
    unpack(w, tile, b, block);
    const uint8_t* a = x.values(group) + (b * 8 * width + lane) * 4;
    for (int h = 0; h < halves_of; ++h) {
      __m256i part[Tokens][2];
      for (int t = 0; t < Tokens; ++t) {
        const int32_t start = halves_of == 1 ? x.starts(group)[b * width + lane + t] : x.half_starts(group)[(2 * b + h) * width + lane + t];
        part[t][0] = part[t][1] = _mm256_set1_epi32(Signed ? 0 : start / 128 * f.zero);
      }
      for (int k = h * cells; k < (h + 1) * cells; ++k) {
        for (int t = 0; t < Tokens; ++t) {
          int32_t four;
          __builtin_memcpy(&four, a + (k * width + t) * 4, 4);
          const __m256i activations = _mm256_set1_epi32(four);
          for (int r = 0; r < 2; ++r) {
            const __m256i q = load(block.cells[k] + 32 * r);
            // Pairs stay inside int16: 63 * 127 * 2, or 128 * 127 * 2 where the sign moves to the activations.
            const __m256i pairs = Signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(activations, q)) : _mm256_maddubs_epi16(q, activations);
            part[t][r] = _mm256_add_epi32(part[t][r], _mm256_madd_epi16(pairs, ones));
          }
        }
      }
      for (int t = 0; t < Tokens; ++t) {
        const __m256 unit = _mm256_set1_ps(x.units(group)[b * width + lane + t]);
        for (int r = 0; r < 2; ++r) {
          total[t][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(part[t][r]), _mm256_mul_ps(block.scales[h][r], unit), total[t][r]);
        }
      }
    }
    for (int t = 0; f.mins && t < Tokens; ++t) {
      const __m256 sum = _mm256_set1_ps(x.sums(group)[b * width + lane + t]);
      for (int r = 0; r < 2; ++r) total[t][r] = _mm256_fmadd_ps(block.mins[r], sum, total[t][r]);
    }
  }
  store<Tokens>(total, out, stride, rows);
}

template <int Tokens, bool Brain>
void plain(const PackedMatrix& w, const PackedRows& x, int64_t tile, int64_t group, int64_t lane, float* out, int64_t stride, int64_t rows) {
  const int64_t width = x.width(), cells = w.blocks() * kBlockColumns / (Brain ? 2 : 1);
  const uint8_t *from = w.values(tile, 0), *a = x.values(group) + lane * 4;
  __m256 total[Tokens][2];
  for (auto& sum : total) sum[0] = sum[1] = _mm256_setzero_ps();
  const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  for (int64_t c = 0; c < cells; ++c, from += 64, a += 4 * width) {
    for (int t = 0; t < Tokens; ++t) {
      int32_t bits;
      __builtin_memcpy(&bits, a + 4 * t, 4);
      const __m256i activations = _mm256_set1_epi32(bits);
      for (int r = 0; r < 2; ++r) {
        const __m256i weights = load(from + 32 * r);
        if constexpr (Brain) {  // two columns in a lane: the first in the lower half
          const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(weights, 16)), second = _mm256_castsi256_ps(_mm256_and_si256(weights, upper));
          total[t][r] = _mm256_fmadd_ps(first, _mm256_castsi256_ps(_mm256_slli_epi32(activations, 16)), total[t][r]);
          total[t][r] = _mm256_fmadd_ps(second, _mm256_castsi256_ps(_mm256_and_si256(activations, upper)), total[t][r]);
        } else {
          total[t][r] = _mm256_fmadd_ps(_mm256_castsi256_ps(weights), _mm256_castsi256_ps(activations), total[t][r]);
        }
      }
    }
  }
  store<Tokens>(total, out, stride, rows);
}

template <int Tokens>
void tokens_of_tile(const PackedMatrix& w, const PackedRows& x, int64_t tile, int64_t group, int64_t lane, float* out, int64_t stride) {
  const int64_t rows = w.rows() - tile * kTileRows;
  switch (w.format().bits) {
    case 32: return plain<Tokens, false>(w, x, tile, group, lane, out, stride, rows);
    case 16: return plain<Tokens, true>(w, x, tile, group, lane, out, stride, rows);
    case 8: return integers<Tokens, true>(w, x, tile, group, lane, out, stride, rows);
    default: return integers<Tokens, false>(w, x, tile, group, lane, out, stride, rows);
  }
}

}  // namespace

void multiply_avx2(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t*) {
  for (int64_t tile = begin; tile < end; ++tile) {
    for (int64_t t = 0; t < x.tokens();) {
      const int64_t group = t / x.width(), lane = t % x.width();
      int64_t count = x.width() - lane < kMostTokens ? x.width() - lane : kMostTokens;
      if (x.tokens() - t < count) count = x.tokens() - t;
      float* to = out + t * stride + tile * kTileRows;
      if (count == 4) tokens_of_tile<4>(w, x, tile, group, lane, to, stride);
      else if (count == 3) tokens_of_tile<3>(w, x, tile, group, lane, to, stride);
      else if (count == 2) tokens_of_tile<2>(w, x, tile, group, lane, to, stride);
      else tokens_of_tile<1>(w, x, tile, group, lane, to, stride);
      t += count;
    }
  }
}

}  // namespace deepseek::kernels
