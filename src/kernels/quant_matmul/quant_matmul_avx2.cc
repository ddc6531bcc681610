// AVX2: 16 outputs in two registers of 8. Products of unsigned weights and signed activations are summed in 16 bits as long as they fit.
#include <immintrin.h>

#include <type_traits>

#include "kernels/quant_matmul/implementations.h"
#include "kernels/with_count.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kMostDirect = 4;  // tokens for which weights are unpacked on the way; for more they are unpacked once, to 8 bits
constexpr int64_t kMostTokens = 6;  // 6 tokens x 2 registers of sums leave 4 of 16 for weights and activations

__m256 halves(const uint8_t* at) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))); }
__m256 bytes(const uint8_t* at) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)))); }
__m256i load(const uint8_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
__m256i four_at(const uint8_t* at) {
  int32_t four;
  __builtin_memcpy(&four, at, 4);
  return _mm256_set1_epi32(four);
}

// Keeps the compiler from regrouping sums of integers: it would load all activations first and run out of registers.
void stay(__m256i& value) { asm("" : "+x"(value)); }
// The same address, which the compiler does not know to be the same.
template <typename T>
const T* stays(const T* at) {
  asm volatile("" : "+r"(at));
  return at;
}

// A type of weights; `Halves` is 2 where a scale covers 16 columns. Unpacked cells are unsigned as they are stored, 8-bit ones signed.
template <int BitsOf, bool SuperOf, bool MinsOf, int HalvesOf>
struct Type {
  static constexpr int kBits = BitsOf, kHalves = HalvesOf, kCells = 8 / HalvesOf;
  static constexpr bool kSuper = SuperOf, kMins = MinsOf;
  static constexpr int kZero = MinsOf || BitsOf == 8 ? 0 : 1 << (BitsOf - 1);
  static constexpr int kShift = 8 - BitsOf;  // 128 >> kShift is the zero
  // Cells whose products' pairs fit 16 bits together: 2 * 127 * 15 * 8, 2 * 127 * 31 * 4, 2 * 127 * 63 * 2, 2 * 127 * 128.
  static constexpr int kChunk = BitsOf == 4 ? 8 : BitsOf == 5 ? 4 : BitsOf == 6 ? 2 : 1;
};

// Weights as they are packed. r: rows 0 to 7 or 8 to 15.
template <typename T>
struct Packed {
  const PackedMatrix& w;
  int64_t tile;

  [[nodiscard]] __m256 scale(int64_t block, int half, int r) const {
    const uint8_t* at = w.scales(tile, block);
    const __m256 d = halves(at + 16 * r);
    if constexpr (!T::kSuper) return d;
    return _mm256_mul_ps(d, bytes(at + (T::kMins ? 64 : 32) + (block % 8 * T::kHalves + half) * 16 + 8 * r));
  }
  [[nodiscard]] __m256 min(int64_t block, int r) const {
    const uint8_t* at = w.scales(tile, block);
    const __m256 dmin = halves(at + 32 + 16 * r);
    if constexpr (!T::kSuper) return dmin;
    return _mm256_sub_ps(_mm256_setzero_ps(), _mm256_mul_ps(dmin, bytes(at + 64 + 8 * T::kHalves * 16 + block % 8 * 16 + 8 * r)));
  }
  void cells(int64_t block, int r, __m256i* out) const {
    const uint8_t* from = w.values(tile, block) + 32 * r;
    const __m256i low = _mm256_set1_epi8(0x0F);
    if constexpr (T::kBits == 8) {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) out[k] = _mm256_xor_si256(load(from + k * 64), _mm256_set1_epi8(static_cast<char>(0x80)));
      return;
    }
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const __m256i pair = load(from + p * 64);
      out[2 * p] = _mm256_and_si256(pair, low);
      out[2 * p + 1] = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
    }
    if constexpr (T::kBits == 5) {
      const __m256i high = load(from + 256), bit = _mm256_set1_epi8(0x10);
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) {
        const __m256i moved = k < 4 ? _mm256_slli_epi16(high, k < 4 ? 4 - k : 0) : _mm256_srli_epi16(high, k < 4 ? 0 : k - 4);
        out[k] = _mm256_or_si256(out[k], _mm256_and_si256(moved, bit));
      }
    }
    if constexpr (T::kBits == 6) {
      const __m256i bits = _mm256_set1_epi8(0x30);
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) {
        const __m256i high = load(from + 256 + k / 4 * 64);
        const __m256i moved = k % 4 < 2 ? _mm256_slli_epi16(high, k % 4 < 2 ? 4 - 2 * (k % 4) : 0) : _mm256_srli_epi16(high, k % 4 < 2 ? 0 : 2 * (k % 4) - 4);
        out[k] = _mm256_or_si256(out[k], _mm256_and_si256(moved, bits));
      }
    }
  }
};

// A tile that was unpacked: cells [blocks][8][64], scales [blocks][halves][16] f32, mins [blocks][16] f32.
template <typename T>
struct Unpacked {
  const uint8_t* cells_at;
  const float *scales, *mins;
  Unpacked(const PackedMatrix& w, const uint8_t* scratch)
      : cells_at(scratch), scales(reinterpret_cast<const float*>(scratch + w.blocks() * 512)), mins(scales + w.blocks() * T::kHalves * 16) {}
  [[nodiscard]] __m256 scale(int64_t block, int half, int r) const { return _mm256_loadu_ps(scales + (block * T::kHalves + half) * 16 + 8 * r); }
  [[nodiscard]] __m256 min(int64_t block, int r) const { return _mm256_loadu_ps(mins + block * 16 + 8 * r); }
};

template <typename T>
void unpack_tile(const Packed<T>& source, const PackedMatrix& w, uint8_t* scratch) {
  auto* scales = reinterpret_cast<float*>(scratch + w.blocks() * 512);
  float* mins = scales + w.blocks() * T::kHalves * 16;
  for (int64_t b = 0; b < w.blocks(); ++b) {
    for (int r = 0; r < 2; ++r) {
      __m256i cells[8];
      source.cells(b, r, cells);
      for (int k = 0; k < 8; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(scratch + b * 512 + k * 64 + 32 * r), cells[k]);
      for (int h = 0; h < T::kHalves; ++h) _mm256_storeu_ps(scales + (b * T::kHalves + h) * 16 + 8 * r, source.scale(b, h, r));
      if constexpr (T::kMins) _mm256_storeu_ps(mins + b * 16 + 8 * r, source.min(b, r));
    }
  }
}

// 8-bit weights are signed: their sign moves to the activations.
template <typename T>
__m256i pairs_of(__m256i cell, __m256i activations) {
  if constexpr (T::kBits == 8) return _mm256_maddubs_epi16(_mm256_abs_epi8(cell), _mm256_sign_epi8(activations, cell));
  return _mm256_maddubs_epi16(cell, activations);
}

// A token's share of a block, for T::kCells cells and Rows groups of 8 rows: sums[t][r] over all columns. cell(k, r) gives a cell.
template <typename T, int Tokens, int Rows, typename Cell>
void sums_of(const Cell& cell, const uint8_t* a, int64_t width, __m256i (*sums)[Rows]) {
  const __m256i ones = _mm256_set1_epi16(1);
  constexpr int kChunk = T::kChunk < T::kCells ? T::kChunk : T::kCells;
#pragma GCC unroll 8
  for (int first = 0; first < T::kCells; first += kChunk) {
    __m256i pairs[Tokens][Rows];
#pragma GCC unroll 8
    for (int k = 0; k < kChunk; ++k, a += 4 * width) {
      __m256i cells[Rows];
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r) cells[r] = cell(first + k, r);
#pragma GCC unroll 6
      for (int t = 0; t < Tokens; ++t) {
        const __m256i activations = four_at(a + 4 * t);
#pragma GCC unroll 2
        for (int r = 0; r < Rows; ++r) {
          const __m256i products = pairs_of<T>(cells[r], activations);
          pairs[t][r] = k == 0 ? products : _mm256_add_epi16(pairs[t][r], products);
          stay(pairs[t][r]);
        }
      }
    }
#pragma GCC unroll 6
    for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r) {
        const __m256i wide = _mm256_madd_epi16(pairs[t][r], ones);
        sums[t][r] = first == 0 ? wide : _mm256_add_epi32(sums[t][r], wide);
        stay(sums[t][r]);
      }
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

// Tokens [lane, lane + Tokens) of a group. A whole tile at once where sums of 16 bits leave registers for it.
template <typename T, int Tokens, typename Source>
void integers(const Source& source, int64_t blocks, const PackedRows& x, int64_t group, int64_t lane, float* out, int64_t stride, int64_t rows) {
  constexpr bool kDirect = std::is_same_v<Source, Packed<T>>;
  constexpr int kRows = !kDirect && T::kBits == 4 ? 2 : 1;
  const int64_t width = x.width();
  const uint8_t* a = x.values(group) + lane * 4;
  const float *units = x.units(group) + lane, *sums = x.sums(group) + lane;
  const int32_t* starts = (T::kHalves == 1 ? x.starts(group) : x.half_starts(group)) + lane;
  __m256 total[Tokens][2];
  for (auto& sum : total) sum[0] = sum[1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b, units += width, sums += width) {
    for (int row = 0; row < 2; row += kRows) {
      // Both halves of a tile read these: kept over the loop they would fill the registers.
      const uint8_t* values = stays(a);
      const float *unit = stays(units), *sum_at = stays(sums);
      const int32_t* start = stays(starts);
      [[maybe_unused]] __m256i unpacked[8];
      if constexpr (kDirect) source.cells(b, row, unpacked);
#pragma GCC unroll 2
      for (int h = 0; h < T::kHalves; ++h) {
        const auto cell = [&](int k, int r) __attribute__((always_inline)) {
          if constexpr (kDirect) return unpacked[h * T::kCells + k];
          else return load(source.cells_at + b * 512 + (h * T::kCells + k) * 64 + 32 * (row + r));
        };
        __m256i part[Tokens][kRows];
        sums_of<T, Tokens, kRows>(cell, values + h * T::kCells * width * 4, width, part);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          const __m256 scale = source.scale(b, h, row + r);
#pragma GCC unroll 6
          for (int t = 0; t < Tokens; ++t) {
            __m256i sum = part[t][r];
            // starts are -128 times the sum of the activations: shifted, they are -zero times it.
            if constexpr (T::kZero != 0) sum = _mm256_add_epi32(sum, _mm256_srai_epi32(_mm256_set1_epi32(start[h * width + t]), T::kShift));
            total[t][row + r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(unit[t])), total[t][row + r]);
          }
        }
      }
      for (int r = row; T::kMins && r < row + kRows; ++r) {
        const __m256 min = source.min(b, r);
#pragma GCC unroll 6
        for (int t = 0; t < Tokens; ++t) total[t][r] = _mm256_fmadd_ps(min, _mm256_set1_ps(sum_at[t]), total[t][r]);
      }
    }
    a += 32 * width;
    starts += T::kHalves * width;
  }
  store<Tokens>(total, out, stride, rows);
}

// bf16 meets bf16: two columns in a lane, the first in the lower half.
template <int Tokens>
void brain(const uint8_t* w, int64_t columns, const uint8_t* a, int64_t width, __m256 (*total)[2]) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  for (int64_t c = 0; c < columns; c += 2, w += 64, a += 4 * width) {
    __m256 first[2], second[2];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      const __m256i weights = load(w + 32 * r);
      first[r] = _mm256_castsi256_ps(_mm256_slli_epi32(weights, 16));
      second[r] = _mm256_castsi256_ps(_mm256_and_si256(weights, upper));
    }
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      const __m256i activations = four_at(a + 4 * t);
      const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(activations, 16)), odd = _mm256_castsi256_ps(_mm256_and_si256(activations, upper));
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) total[t][r] = _mm256_fmadd_ps(second[r], odd, _mm256_fmadd_ps(first[r], even, total[t][r]));
    }
  }
}

template <int Tokens>
void single(const uint8_t* w, int64_t columns, const uint8_t* a, int64_t width, __m256 (*total)[2]) {
  for (int64_t c = 0; c < columns; ++c, w += 64, a += 4 * width) {
    const __m256 weights[2] = {_mm256_castsi256_ps(load(w)), _mm256_castsi256_ps(load(w + 32))};
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      const __m256 activations = _mm256_castsi256_ps(four_at(a + 4 * t));
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) total[t][r] = _mm256_fmadd_ps(weights[r], activations, total[t][r]);
    }
  }
}

// Calls body(group, lane, count, first token) for runs of at most `most` tokens inside the groups of x.
template <typename Body>
void each_run(const PackedRows& x, int64_t most, const Body& body) {
  for (int64_t t = 0; t < x.tokens();) {
    const int64_t group = t / x.width(), lane = t % x.width();
    int64_t count = x.width() - lane < most ? x.width() - lane : most;
    if (x.tokens() - t < count) count = x.tokens() - t;
    body(group, lane, count, t);
    t += count;
  }
}

template <typename T>
void multiply_integers(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t rows = w.rows() - tile * kTileRows;
    const Packed<T> packed{w, tile};
    float* to = out + tile * kTileRows;
    if (x.tokens() <= kMostDirect) {
      with_count<static_cast<int>(kMostDirect)>(x.tokens(), [&]<int Tokens>() { integers<T, Tokens>(packed, w.blocks(), x, 0, 0, to, stride, rows); });
      continue;
    }
    unpack_tile(packed, w, scratch);
    const Unpacked<T> unpacked(w, scratch);
    each_run(x, kMostTokens, [&](int64_t group, int64_t lane, int64_t count, int64_t first) {
      with_count<static_cast<int>(kMostTokens)>(count, [&]<int Tokens>() { integers<T, Tokens>(unpacked, w.blocks(), x, group, lane, to + first * stride, stride, rows); });
    });
  }
}

void multiply_plain(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride) {
  const int64_t columns = w.blocks() * kBlockColumns;
  for (int64_t tile = begin; tile < end; ++tile) {
    each_run(x, 4, [&](int64_t group, int64_t lane, int64_t count, int64_t first) {
      with_count<4>(count, [&]<int Tokens>() {
        __m256 total[Tokens][2];
        for (auto& sum : total) sum[0] = sum[1] = _mm256_setzero_ps();
        const uint8_t* a = x.values(group) + lane * 4;
        if (w.format().bits == 16) brain<Tokens>(w.values(tile, 0), columns, a, x.width(), total);
        else single<Tokens>(w.values(tile, 0), columns, a, x.width(), total);
        store<Tokens>(total, out + first * stride + tile * kTileRows, stride, w.rows() - tile * kTileRows);
      });
    });
  }
}

}  // namespace

void multiply_avx2(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
  const PackedFormat& f = w.format();
  const auto run = [&](auto* multiply) { multiply(w, x, begin, end, out, stride, scratch); };
  if (!f.is_integer()) return multiply_plain(w, x, begin, end, out, stride);
  if (f.bits == 8) return run(multiply_integers<Type<8, false, false, 1>>);
  if (f.bits == 6) return run(multiply_integers<Type<6, true, false, 2>>);
  if (f.bits == 5 && f.super) return run(multiply_integers<Type<5, true, true, 1>>);
  if (f.bits == 5) return f.mins ? run(multiply_integers<Type<5, false, true, 1>>) : run(multiply_integers<Type<5, false, false, 1>>);
  if (f.super) return run(multiply_integers<Type<4, true, true, 1>>);
  return f.mins ? run(multiply_integers<Type<4, false, true, 1>>) : run(multiply_integers<Type<4, false, false, 1>>);
}

}  // namespace deepseek::kernels
