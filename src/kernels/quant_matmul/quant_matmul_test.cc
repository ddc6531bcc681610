// Every implementation on every type against sums in f64, and what the packed layout gives back.
#include "kernels/quant_matmul/quant_matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "hardware/cpu.h"
#include "kernels/quant_matmul/emulated.h"
#include "kernels/quant_matmul/implementations.h"

namespace deepseek::kernels {
namespace {

std::string f32(const PackedFormat& format) { return format.bits == 32 ? "tiles multiply no f32" : ""; }
const MatmulKernel kEmulated{"emulated_amx", f32, multiply_emulated, 16};

// Those of the list, and that of AMX on emulated tiles for any number of tokens.
std::vector<MatmulKernel> tested_kernels() {
  std::vector<MatmulKernel> all(matmul_kernels().begin(), matmul_kernels().end());
  all.push_back(kEmulated);
  return all;
}

struct Named {
  const char* name;
  PackedFormat format;
};
constexpr Named kFormats[] = {{"q4_0", packed_formats::kQ4_0}, {"q4_1", packed_formats::kQ4_1}, {"q5_0", packed_formats::kQ5_0},
                              {"q5_1", packed_formats::kQ5_1}, {"q8_0", packed_formats::kQ8_0}, {"q4_K", packed_formats::kQ4_K},
                              {"q5_K", packed_formats::kQ5_K}, {"q6_K", packed_formats::kQ6_K}, {"bf16", packed_formats::kBF16},
                              {"f32", packed_formats::kF32}};

constexpr uint16_t kHalves[] = {0x0000, 0x0001, 0x03FF, 0x0400, 0x211F, 0x2C00, 0x3555, 0xA8F3, 0x1234, 0xB000};  // zero, subnormal, both signs

struct Weights {
  PackedMatrix packed;
  std::vector<double> exact, sizes;  // w, and the magnitudes whose rounding a product feels: |scale (q - zero)| + |min|
};

Weights make_weights(const PackedFormat& format, int64_t rows, int64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  Weights out{PackedMatrix(format, rows, columns), std::vector<double>(static_cast<size_t>(rows * columns)), {}};
  out.sizes.resize(out.exact.size());
  const auto set = [&](int64_t r, int64_t c, double value, double size) {
    if (c >= columns) return;
    out.exact[static_cast<size_t>(r * columns + c)] = value;
    out.sizes[static_cast<size_t>(r * columns + c)] = size;
  };
  for (int64_t r = 0; r < rows && !format.is_integer(); ++r) {
    std::vector<float> values(static_cast<size_t>(columns));
    for (auto& v : values) v = std::ldexp(static_cast<float>(static_cast<int>(random() % 255) - 127), static_cast<int>(random() % 8) - 10);
    if (columns > 3) values[3] = 1000.0f;  // one huge value a row
    out.packed.set_row(r, values);
    for (int64_t c = 0; c < columns; ++c) set(r, c, values[static_cast<size_t>(c)], std::abs(values[static_cast<size_t>(c)]));
  }
  if (!format.is_integer()) return out;
  for (int64_t tile = 0; tile < out.packed.tiles(); ++tile) {
    for (int64_t g = 0; g * format.group() < columns; ++g) {
      GroupValues values[kTileRows];
      for (int64_t r = tile * kTileRows; r < std::min(rows, (tile + 1) * kTileRows); ++r) {
        GroupValues& row = values[r % kTileRows];
        row.d = kHalves[random() % std::size(kHalves)];
        row.dmin = kHalves[random() % std::size(kHalves)];
        for (auto& s : row.scales) s = static_cast<int8_t>(format.mins ? random() % 64 : random() % 256);
        for (auto& m : row.mins) m = static_cast<int8_t>(random() % 64);
        for (int64_t c = 0; c < format.group(); ++c) {
          const int64_t at = g * format.group() + c;
          const uint32_t range = 1u << format.bits, drawn = random() % 4 == 0 ? random() % 2 * (range - 1) : random() % range;
          row.q[c] = static_cast<uint8_t>(at >= columns ? static_cast<uint32_t>(format.zero) : drawn);
          double scale = f16_to_f32(row.d), min = format.mins ? f16_to_f32(row.dmin) : 0.0;
          if (format.super) {
            scale *= row.scales[c / format.block];
            min *= -row.mins[c / format.block];
          }
          set(r, at, scale * (row.q[c] - format.zero) + min, std::abs(scale * (row.q[c] - format.zero)) + std::abs(min));
        }
      }
      out.packed.set_group(tile, g, values);
    }
  }
  return out;
}

PackedRows make_rows(PackedRows::Kind kind, int64_t tokens, int64_t columns, uint32_t seed, int64_t width) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  PackedRows rows;
  rows.resize(kind, tokens, columns, width);
  std::vector<float> x(static_cast<size_t>(columns));
  for (int64_t t = 0; t < tokens; ++t) {
    for (auto& v : x) v = normal(random);
    if (columns > 40) std::fill(x.begin() + 32, x.begin() + 40, 0.0f);
    x[static_cast<size_t>(t % columns)] = t % 3 == 0 ? 300.0f : 1e-41f;  // an outlier, or a denormal
    rows.set(t, x.data());
  }
  return rows;
}

std::vector<float> multiply(const MatmulKernel& kernel, const PackedMatrix& w, const PackedRows& x, int64_t stride) {
  std::vector<float> out(static_cast<size_t>(x.tokens() * stride), -777.0f);
  auto* scratch = static_cast<uint8_t*>(std::aligned_alloc(64, static_cast<size_t>((matmul_scratch_bytes(w) + 64) / 64 * 64)));
  const int64_t middle = w.tiles() / 2;  // two threads' shares
  kernel.multiply(w, x, 0, middle, out.data(), stride, scratch);
  kernel.multiply(w, x, middle, w.tiles(), out.data(), stride, scratch);
  std::free(scratch);
  return out;
}

// Activations that a kernel takes with such weights.
std::vector<PackedRows::Kind> kinds_for(const PackedFormat& format, const MatmulKernel& kernel) {
  std::vector<PackedRows::Kind> kinds;
  if (format.bits != 16 || hardware::cpu().features.avx512_bf16 || kernel.name != std::string("avx512")) kinds.push_back(PackedRows::kind_of_weights(format));
  if (format.bits == 16 && kernel.name == std::string("avx512")) kinds.push_back(PackedRows::Kind::kF32);
  return kinds;
}

class EveryFormat : public ::testing::TestWithParam<std::tuple<Named, MatmulKernel>> {};
INSTANTIATE_TEST_SUITE_P(QuantMatmul, EveryFormat,
                         ::testing::Combine(::testing::ValuesIn(kFormats), ::testing::ValuesIn(tested_kernels())),
                         [](const auto& info) { return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param).name; });

TEST_P(EveryFormat, EqualsSumsInDoublePrecision) {
  const auto& [named, kernel] = GetParam();
  const PackedFormat& format = named.format;
  if (const std::string reason = kernel.declines(format); !reason.empty()) GTEST_SKIP() << reason;
  for (const int64_t columns : {1, 31, 32, 33, 64, 255, 256, 640, 1000}) {
    for (const int64_t rows : {1, 15, 16, 17, 40}) {
      const Weights w = make_weights(format, rows, columns, static_cast<uint32_t>(columns * 100 + rows));
      for (const int64_t tokens : {1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 17, 24, 29, 33}) {
        if (columns > 256 && rows != 17) continue;
        for (const auto kind : kinds_for(format, kernel)) {
          const PackedRows x = make_rows(kind, tokens, columns, static_cast<uint32_t>(tokens), kernel.width);
          const int64_t stride = rows + 3;
          const auto out = multiply(kernel, w.packed, x, stride);
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t r = 0; r < stride; ++r) {
              const float got = out[static_cast<size_t>(t * stride + r)];
              if (r >= rows) {
                ASSERT_EQ(got, -777.0f) << "wrote beyond its rows";
                continue;
              }
              double expected = 0, size = 0;
              for (int64_t c = 0; c < columns; ++c) {
                const double a = x.value(t, c);
                expected += w.exact[static_cast<size_t>(r * columns + c)] * a;
                size += w.sizes[static_cast<size_t>(r * columns + c)] * std::abs(a);
              }
              // Each term is rounded a few times on its way, then once for every addition above it; and bf16 weights once.
              const double additions = format.is_integer() ? 2.0 * static_cast<double>(w.packed.blocks()) : static_cast<double>(columns);
              const double bound = (additions + 6) * 0x1p-24 * size + (format.bits == 16 ? 0x1p-8 * size : 0.0) + 1e-36;
              ASSERT_NEAR(got, expected, bound) << columns << " columns, row " << r << " of " << rows << ", token " << t << " of " << tokens;
            }
          }
        }
      }
    }
  }
}

TEST_P(EveryFormat, TokensDoNotChangeEachOther) {
  const auto& [named, kernel] = GetParam();
  if (const std::string reason = kernel.declines(named.format); !reason.empty()) GTEST_SKIP() << reason;
  const Weights w = make_weights(named.format, 33, 512, 9);
  for (const auto kind : kinds_for(named.format, kernel)) {
    const auto all = multiply(kernel, w.packed, make_rows(kind, 70, 512, 4, kernel.width), 33);
    for (const int64_t tokens : {1, 3, 6, 12, 13, 16, 17, 31, 33, 64}) {
      const auto some = multiply(kernel, w.packed, make_rows(kind, tokens, 512, 4, kernel.width), 33);
      for (size_t i = 0; i < some.size(); ++i) ASSERT_EQ(some[i], all[i]) << tokens << " tokens, output " << i;
    }
  }
}

TEST_P(EveryFormat, RowsComeBack) {
  const auto& [named, kernel] = GetParam();
  const Weights w = make_weights(named.format, 19, 512, 5);
  std::vector<float> row(512);
  for (int64_t r = 0; r < 19; ++r) {
    w.packed.row(r, row);
    for (size_t c = 0; c < 512; ++c) ASSERT_NEAR(row[c], w.exact[static_cast<size_t>(r) * 512 + c], (named.format.bits == 16 ? 0x1p-8 : 0x1p-22) * w.sizes[static_cast<size_t>(r) * 512 + c]);
  }
}

TEST(QuantMatmul, NanAndInfinityAreNotHidden) {
  for (const auto& [name, format] : kFormats) {
    const Weights w = make_weights(format, 4, 256, 3);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      for (const auto& kernel : tested_kernels()) {
        if (!kernel.declines(format).empty()) continue;
        for (const int64_t tokens : {1, 19}) {
          PackedRows rows = make_rows(kinds_for(format, kernel).back(), tokens, 256, 1, kernel.width);
          std::vector<float> x(256, 1.0f);
          x[70] = bad;
          rows.set(tokens - 1, x.data());
          const auto out = multiply(kernel, w.packed, rows, 4);
          for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isfinite(out[i]), i / 4 + 1 < static_cast<size_t>(tokens)) << name << " " << kernel.name;
        }
      }
    }
  }
}

// Sums in the one order and with the roundings that kernels with int8 products of 16 outputs share: [tokens][rows].
std::vector<float> in_the_shared_order(const PackedMatrix& w, const PackedRows& x) {
  const PackedFormat& f = w.format();
  const int64_t halves = 32 / f.block;
  std::vector<uint8_t> scratch(static_cast<size_t>(matmul_scratch_bytes(w)));
  std::vector<float> out(static_cast<size_t>(x.tokens() * w.rows()));
  for (int64_t r = 0; r < w.rows(); ++r) {
    if (r % 16 == 0) unpack_tile_plain(w, r / 16, scratch.data());
    const auto *scales = reinterpret_cast<const float*>(scratch.data() + w.blocks() * 512) + r % 16, *mins = scales + w.blocks() * halves * 16;
    for (int64_t t = 0; t < x.tokens(); ++t) {
      const int64_t g = t / x.width(), lane = t % x.width();
      float total = 0;
      for (int64_t s = 0; s < w.blocks() * halves; ++s) {
        const int64_t unit = s / halves * x.width() + lane;
        int32_t part = 0;
        for (int64_t c = s * f.block; c < (s + 1) * f.block; ++c) {
          const auto a = static_cast<int8_t>(x.values(g)[(c / 4 * x.width() + lane) * 4 + c % 4]);
          part += (scratch[static_cast<size_t>(c / 4 * 64 + r % 16 * 4 + c % 4)] - 128) * a;
        }
        total = std::fma(static_cast<float>(part), scales[s * 16] * x.units(g)[unit], total);
        if (f.mins) total = std::fma(mins[s * 16], x.sums(g)[unit], total);
      }
      out[static_cast<size_t>(t * w.rows() + r)] = total;
    }
  }
  return out;
}

// Few tokens go from AMX to AVX-512, so that both stand in one text.
TEST(QuantMatmul, TilesAndAvx512GiveTheSameBits) {
  std::vector<MatmulKernel> kernels = {kEmulated};
  for (const auto& kernel : matmul_kernels()) {
    const std::string name = kernel.name;
    if ((name == "amx" || name == "avx512") && kernel.declines(packed_formats::kQ8_0).empty()) kernels.push_back(kernel);
  }
  for (const auto& [name, format] : kFormats) {
    if (!format.is_integer()) continue;
    for (const int64_t columns : {1, 33, 65, 257, 640, 1000}) {
      const Weights w = make_weights(format, 50, columns, 11);
      for (const int64_t tokens : {1, 5, 12, 13, 16, 17, 32, 45, 70}) {
        const auto expected = in_the_shared_order(w.packed, make_rows(PackedRows::Kind::kInt8, tokens, columns, 5, 12));
        for (const auto& kernel : kernels) {
          for (const int64_t width : {int64_t{12}, kernel.width}) {
            const auto got = multiply(kernel, w.packed, make_rows(PackedRows::Kind::kInt8, tokens, columns, 5, width), 50);
            for (size_t i = 0; i < got.size(); ++i) {
              ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
                  << kernel.name << ", " << name << ", " << columns << " columns, " << tokens << " tokens, output " << i;
            }
          }
        }
      }
    }
  }
}

TEST(QuantMatmul, TheSelfCheckFindsAWrongKernel) {
  EXPECT_TRUE(equals_reference(kEmulated));
  for (const auto& kernel : matmul_kernels()) {
    if (!kernel.declines(packed_formats::kQ8_0).empty() || !kernel.declines(packed_formats::kBF16).empty()) continue;
    EXPECT_TRUE(equals_reference(kernel)) << kernel.name;
  }
  const auto off_by_one = [](const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch) {
    multiply_emulated(w, x, begin, end, out, stride, scratch);
    if (w.format() == packed_formats::kQ6_K) out[36 * stride + 34] += 1;
  };
  EXPECT_FALSE(equals_reference({"off by one", nullptr, off_by_one, 16}));
}

TEST(QuantMatmul, KernelsAreChosenByNameAndReasonsAreGiven) {
  ::setenv("DEEPSEEK_FORCE_KERNEL", "reference", 1);
  EXPECT_STREQ((*choose_matmul(packed_formats::kQ8_0))->name, "reference");
  ::setenv("DEEPSEEK_FORCE_KERNEL", "abacus", 1);
  EXPECT_THAT(choose_matmul(packed_formats::kQ8_0).error().message, ::testing::HasSubstr("abacus is unknown; there are "));
  ::setenv("DEEPSEEK_FORCE_KERNEL", "amx", 1);
  for (const auto& format : {packed_formats::kQ8_0, packed_formats::kBF16, packed_formats::kF32}) {
    const auto chosen = choose_matmul(format);
    if (chosen) {
      EXPECT_STREQ((*chosen)->name, "amx");
    } else if (!hardware::cpu().features.amx_int8) {
      EXPECT_EQ(chosen.error().message, "DEEPSEEK_FORCE_KERNEL=amx: the processor has no AMX int8");
    }
  }
  ::unsetenv("DEEPSEEK_FORCE_KERNEL");
  EXPECT_TRUE(choose_matmul(packed_formats::kBF16));
}

TEST(QuantMatmul, HalvesAreExact) {
  EXPECT_EQ(f16_to_f32(0x3C00), 1.0f);
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_f32(0x83FF), -1023 * 0x1p-24f);
  EXPECT_EQ(f16_to_f32(0x7BFF), 65504.0f);
  EXPECT_TRUE(std::isinf(f16_to_f32(0xFC00)));
  EXPECT_TRUE(std::isnan(f16_to_f32(0x7C01)));
}

}  // namespace
}  // namespace deepseek::kernels
