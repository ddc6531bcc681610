// AVX-512: 16 outputs in the lanes of a register, up to 12 tokens at once; VNNI for int8, BF16 for bf16.
#include <immintrin.h>

#include "kernels/quant_matmul/implementations.h"
#include "kernels/with_count.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kMostDirect = 4;  // tokens for which weights are unpacked on the way; for more they are unpacked once, to 8 bits

// One block of 32 columns: unpack() gives 8 cells of unsigned bytes with zero = 128 (mins: 128 stands for 0), scale() the scale of
// its halves. `Halves` is 2 where a scale covers 16 columns.
template <int Bits, bool Super, bool Mins, int Halves>
struct Packed {
  static constexpr int kBits = Bits;
  static constexpr bool kMins = Mins;
  static constexpr int kHalves = Halves;
  static constexpr int kGroupScales = (Super ? 32 + 8 * Halves * 16 : 32) * (Mins ? 2 : 1);

  static constexpr int kPanelBlocks = Super ? 8 : 2;
  static constexpr int kScaleBytes = (kGroupScales * (Super ? 1 : 2) + 63) / 64 * 64;
  static constexpr int kPanelBytes = kScaleBytes + kPanelBlocks * Bits * 64;

  const uint8_t* panel;
  __m512 d, dmin;

  Packed(const PackedMatrix& w, int64_t tile, const uint8_t*) : panel(w.scales(tile, 0) - kPanelBytes), d(), dmin() {}

  static __m512 halves(const uint8_t* at) { return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at))); }
  static __m512 bytes(const uint8_t* at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at))));
  }

  // Blocks are visited in order.
  void begin(int64_t block) {
    if (block % kPanelBlocks == 0) panel += kPanelBytes;
    if (Super && block % kPanelBlocks != 0) return;
    const uint8_t* at = panel + (Super ? 0 : block % kPanelBlocks * kGroupScales);
    d = halves(at);
    if constexpr (Mins) dmin = halves(at + 32);
  }
  [[nodiscard]] __m512 scale(int64_t block, int half) const {
    if constexpr (!Super) return d;
    return _mm512_mul_ps(d, bytes(panel + (Mins ? 64 : 32) + (block % 8 * Halves + half) * 16));
  }
  // What is added for each unit of the sum of activations.
  [[nodiscard]] __m512 min(int64_t block) const {
    if constexpr (!Super) return dmin;
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), dmin), bytes(panel + 64 + 8 * Halves * 16 + block % 8 * 16));
  }
  void unpack(int64_t block, __m512i* cells) const {
    const auto* from = reinterpret_cast<const __m512i*>(panel + kScaleBytes + block % kPanelBlocks * (Bits * 64));
    if constexpr (Bits == 8) {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) cells[k] = _mm512_load_si512(from + k);
    } else {
      constexpr int kZero = Mins ? 0 : 1 << (Bits - 1);
      const __m512i low = _mm512_set1_epi8(0x0F), recentre = _mm512_set1_epi8(static_cast<char>(128 - kZero));
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        const __m512i pair = _mm512_load_si512(from + p);
        cells[2 * p] = _mm512_and_si512(pair, low);
        cells[2 * p + 1] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
      }
      if constexpr (Bits == 5) {
        const __m512i bit = _mm512_set1_epi8(0x10), high = _mm512_load_si512(from + 4);
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
          const __m512i moved = k < 4 ? _mm512_slli_epi16(high, k < 4 ? 4 - k : 0) : _mm512_srli_epi16(high, k < 4 ? 0 : k - 4);
          cells[k] = _mm512_ternarylogic_epi64(cells[k], moved, bit, 0xF8);  // a | (b & c)
        }
      }
      if constexpr (Bits == 6) {
        const __m512i bits = _mm512_set1_epi8(0x30);
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
          const __m512i high = _mm512_load_si512(from + 4 + k / 4);
          const __m512i moved = k % 4 < 2 ? _mm512_slli_epi16(high, k % 4 < 2 ? 4 - 2 * (k % 4) : 0) : _mm512_srli_epi16(high, k % 4 < 2 ? 0 : 2 * (k % 4) - 4);
          cells[k] = _mm512_ternarylogic_epi64(cells[k], moved, bits, 0xF8);
        }
      }
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) cells[k] = _mm512_add_epi8(cells[k], recentre);
    }
  }
};

// A tile that was unpacked to 8 bits: cells [blocks][8][64], then scales [blocks][Halves][16] f32, then mins [blocks][16] f32.
template <bool Mins, int Halves>
struct Unpacked {
  static constexpr bool kMins = Mins;
  static constexpr int kHalves = Halves;
  const uint8_t* cells_at;
  const float *scales, *mins;

  Unpacked(const PackedMatrix& w, int64_t, const uint8_t* scratch)
      : cells_at(scratch), scales(reinterpret_cast<const float*>(scratch + w.blocks() * 512)), mins(scales + w.blocks() * Halves * 16) {}
  void begin(int64_t) {}
  [[nodiscard]] __m512 scale(int64_t block, int half) const { return _mm512_load_ps(scales + (block * Halves + half) * 16); }
  [[nodiscard]] __m512 min(int64_t block) const { return _mm512_load_ps(mins + block * 16); }
  void unpack(int64_t block, __m512i* cells) const {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) cells[k] = _mm512_load_si512(cells_at + block * 512 + k * 64);
  }
};

template <typename Source>
void unpack_tile(Source source, const PackedMatrix& w, uint8_t* scratch) {
  auto* scales = reinterpret_cast<float*>(scratch + w.blocks() * 512);
  float* mins = scales + w.blocks() * Source::kHalves * 16;
  for (int64_t b = 0; b < w.blocks(); ++b) {
    source.begin(b);
    __m512i cells[8];
    source.unpack(b, cells);
    for (int k = 0; k < 8; ++k) _mm512_store_si512(scratch + b * 512 + k * 64, cells[k]);
    for (int h = 0; h < Source::kHalves; ++h) _mm512_store_ps(scales + (b * Source::kHalves + h) * 16, source.scale(b, h));
    if constexpr (Source::kMins) _mm512_store_ps(mins + b * 16, source.min(b));
  }
}

template <int Tokens>
void store(const __m512* sums, float* out, int64_t stride, int64_t rows) {
  const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xFFFF : (1 << rows) - 1);
#pragma GCC unroll 12
  for (int t = 0; t < Tokens; ++t) _mm512_mask_storeu_ps(out + t * stride, mask, sums[t]);
}

template <typename Source, int Tokens>
void integers(Source source, int64_t blocks, const PackedRows& x, int64_t group, float* out, int64_t stride, int64_t rows) {
  const int64_t width = x.width();
  const uint8_t* a = x.values(group);
  const float *units = x.units(group), *sums = x.sums(group);
  const int32_t* starts = Source::kHalves == 1 ? x.starts(group) : x.half_starts(group);
  constexpr int kCells = 8 / Source::kHalves;
  __m512 total[Tokens];
#pragma GCC unroll 12
  for (int t = 0; t < Tokens; ++t) total[t] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i cells[8];
    source.begin(b);
    source.unpack(b, cells);
#pragma GCC unroll 2
    for (int h = 0; h < Source::kHalves; ++h) {
      __m512i part[Tokens];
#pragma GCC unroll 12
      for (int t = 0; t < Tokens; ++t) part[t] = _mm512_set1_epi32(starts[t]);
      starts += width;
#pragma GCC unroll 8
      for (int k = 0; k < kCells; ++k) {
#pragma GCC unroll 12
        for (int t = 0; t < Tokens; ++t) {
          int32_t four;
          __builtin_memcpy(&four, a + (k * width + t) * 4, 4);
          part[t] = _mm512_dpbusd_epi32(part[t], cells[h * kCells + k], _mm512_set1_epi32(four));
        }
      }
      a += kCells * width * 4;
      const __m512 scale = source.scale(b, h);
#pragma GCC unroll 12
      for (int t = 0; t < Tokens; ++t) {
        total[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[t]), _mm512_mul_ps(scale, _mm512_set1_ps(units[t])), total[t]);
      }
    }
    if constexpr (Source::kMins) {
      const __m512 min = source.min(b);
#pragma GCC unroll 12
      for (int t = 0; t < Tokens; ++t) total[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(sums[t]), total[t]);
    }
    units += width;
    sums += width;
  }
  store<Tokens>(total, out, stride, rows);
}

// bf16: two columns in a lane; f32: one.
template <int Tokens, bool Brain>
void plain(const uint8_t* w, int64_t columns, const PackedRows& x, int64_t group, float* out, int64_t stride, int64_t rows) {
  const uint8_t* a = x.values(group);
  __m512 total[Tokens];
#pragma GCC unroll 12
  for (int t = 0; t < Tokens; ++t) total[t] = _mm512_setzero_ps();
  for (int64_t c = 0; c < columns; c += Brain ? 2 : 1, w += 64, a += 4 * x.width()) {
    const __m512i weights = _mm512_load_si512(w);
#pragma GCC unroll 12
    for (int t = 0; t < Tokens; ++t) {
      int32_t bits;
      __builtin_memcpy(&bits, a + 4 * t, 4);
      const __m512i activations = _mm512_set1_epi32(bits);
      if constexpr (Brain) total[t] = _mm512_dpbf16_ps(total[t], (__m512bh)weights, (__m512bh)activations);
      else total[t] = _mm512_fmadd_ps(_mm512_castsi512_ps(weights), _mm512_castsi512_ps(activations), total[t]);
    }
  }
  store<Tokens>(total, out, stride, rows);
}

// bf16 weights widened to f32: two columns in a lane, activations in f32.
template <int Tokens>
void widened(const uint8_t* w, int64_t columns, const PackedRows& x, int64_t group, float* out, int64_t stride, int64_t rows) {
  const int64_t width = x.width();
  const auto *a = reinterpret_cast<const float*>(x.values(group)), *b = a + width;
  __m512 total[Tokens];
#pragma GCC unroll 12
  for (int t = 0; t < Tokens; ++t) total[t] = _mm512_setzero_ps();
  for (int64_t c = 0; c < columns; c += 2, w += 64, a += 2 * width, b += 2 * width) {
    const __m512i weights = _mm512_load_si512(w);
    const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(weights, 16)), second = _mm512_castsi512_ps(_mm512_and_si512(weights, _mm512_set1_epi32(-65536)));
#pragma GCC unroll 12
    for (int t = 0; t < Tokens; ++t) total[t] = _mm512_fmadd_ps(second, _mm512_set1_ps(b[t]), _mm512_fmadd_ps(first, _mm512_set1_ps(a[t]), total[t]));
  }
  store<Tokens>(total, out, stride, rows);
}

template <typename Source>
void tile_direct(const Source& source, const PackedMatrix& w, const PackedRows& x, float* out, int64_t stride, int64_t rows) {
  constexpr int kMost = static_cast<int>(kMostDirect);
  with_count<kMost>(x.tokens(), [&]<int Tokens>() { integers<Source, Tokens>(source, w.blocks(), x, 0, out, stride, rows); });
}

template <typename Source>
void tile_of_groups(const Source& source, const PackedMatrix& w, const PackedRows& x, float* out, int64_t stride, int64_t rows) {
  for (int64_t g = 0; g < x.groups(); ++g) {
    const int64_t first = g * x.width(), tokens = x.tokens() - first < x.width() ? x.tokens() - first : x.width();
    with_count<PackedRows::kMostWidth>(tokens, [&]<int Tokens>() {
      integers<Source, Tokens>(source, w.blocks(), x, g, out + first * stride, stride, rows);
    });
  }
}

template <typename Source>
void multiply_integers(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t rows = w.rows() - tile * kTileRows;
    const Source source(w, tile, nullptr);
    if (x.tokens() <= kMostDirect) {
      tile_direct(source, w, x, out + tile * kTileRows, stride, rows);
    } else if constexpr (Source::kBits == 8) {
      tile_of_groups(source, w, x, out + tile * kTileRows, stride, rows);
    } else {
      unpack_tile(source, w, scratch);
      tile_of_groups(Unpacked<Source::kMins, Source::kHalves>(w, tile, scratch), w, x, out + tile * kTileRows, stride, rows);
    }
  }
}

void multiply_plain(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride) {
  const int64_t columns = w.blocks() * kBlockColumns;
  for (int64_t tile = begin; tile < end; ++tile) {
    for (int64_t g = 0; g < x.groups(); ++g) {
      const int64_t first = g * x.width(), tokens = x.tokens() - first < x.width() ? x.tokens() - first : x.width();
      float* to = out + first * stride + tile * kTileRows;
      with_count<PackedRows::kMostWidth>(tokens, [&]<int Tokens>() {
        if (w.format().bits == 16 && x.kind() == PackedRows::Kind::kF32) widened<Tokens>(w.values(tile, 0), columns, x, g, to, stride, w.rows() - tile * kTileRows);
        else if (w.format().bits == 16) plain<Tokens, true>(w.values(tile, 0), columns, x, g, to, stride, w.rows() - tile * kTileRows);
        else plain<Tokens, false>(w.values(tile, 0), columns, x, g, to, stride, w.rows() - tile * kTileRows);
      });
    }
  }
}

// Calls body.operator()<Source>() for the Packed that reads integers of this format.
template <typename Body>
void with_source(const PackedFormat& f, const Body& body) {
  if (f.bits == 8) return body.template operator()<Packed<8, false, false, 1>>();
  if (f.bits == 6) return body.template operator()<Packed<6, true, false, 2>>();
  if (f.bits == 5 && f.super) return body.template operator()<Packed<5, true, true, 1>>();
  if (f.bits == 5 && f.mins) return body.template operator()<Packed<5, false, true, 1>>();
  if (f.bits == 5) return body.template operator()<Packed<5, false, false, 1>>();
  if (f.super) return body.template operator()<Packed<4, true, true, 1>>();
  if (f.mins) return body.template operator()<Packed<4, false, true, 1>>();
  body.template operator()<Packed<4, false, false, 1>>();
}

}  // namespace

void multiply_avx512(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  if (!w.format().is_integer()) return multiply_plain(w, x, begin, end, out, stride);
  with_source(w.format(), [&]<typename Source>() { multiply_integers<Source>(w, x, begin, end, out, stride, scratch); });
}

void unpack_tile_avx512(const PackedMatrix& w, int64_t tile, uint8_t* scratch) {
  with_source(w.format(), [&]<typename Source>() { unpack_tile(Source(w, tile, nullptr), w, scratch); });
}

}  // namespace deepseek::kernels
