// Every kernel that runs here, and the one for tiles in emulation, beside sums in f64.
#include "kernels/bf16_product/bf16_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/bf16_product/emulated.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

std::vector<Bf16Kernel> running() {
  std::vector<Bf16Kernel> kernels{{"emulated tiles", nullptr, multiply_pairs_emulated}};
  for (const auto& kernel : bf16_kernels()) {
    if (kernel.declines().empty()) kernels.push_back(kernel);
  }
  return kernels;
}

struct Matrices {
  int64_t rows, depth, columns;
  std::vector<uint16_t> a, b;
  Matrices(int64_t r, int64_t d, int64_t c) : rows(r), depth(d), columns(c), a(static_cast<size_t>(r * d)), b(static_cast<size_t>(d * c)) {
    const auto wave = [](size_t i) { return f32_to_bf16(std::sin(static_cast<float>(i * i % 7919))); };
    for (size_t i = 0; i < a.size(); ++i) a[i] = wave(i);
    for (size_t i = 0; i < b.size(); ++i) b[i] = wave(5 * i + 2);
  }
  [[nodiscard]] int64_t at(int64_t k, int64_t j) const { return j / 16 * depth * 16 + (k / 2 * 16 + j % 16) * 2 + k % 2; }
  [[nodiscard]] float left(int64_t r, int64_t k) const { return bf16_to_f32(a[static_cast<size_t>(r * depth + k)]); }
  [[nodiscard]] float right(int64_t k, int64_t j) const { return bf16_to_f32(b[static_cast<size_t>(at(k, j))]); }
  [[nodiscard]] std::vector<float> times(const Bf16Kernel& kernel, bool add = false, float before = 0) const {
    std::vector<float> c(static_cast<size_t>(rows * columns), before);
    kernel.run({.a = a.data(), .a_row = depth, .b = b.data(), .b_block = depth * 16, .c = c.data(), .c_row = columns, .rows = rows, .depth = depth, .columns = columns, .add = add});
    return c;
  }
};

TEST(Bf16Product, EqualsSumsInDouble) {
  for (const auto& kernel : running()) {
    for (const int64_t rows : {1, 5, 6, 15, 16, 17, 31, 32, 33, 48, 70}) {
      for (const int64_t depth : {32, 64, 544}) {
        for (const int64_t columns : {16, 32, 48, 64, 80}) {
          const Matrices m(rows, depth, columns);
          const auto c = m.times(kernel, true, 0.5f);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t j = 0; j < columns; ++j) {
              double sum = 0.5, size = 0.5;
              for (int64_t k = 0; k < depth; ++k) {
                const double x = static_cast<double>(m.left(r, k)) * m.right(k, j);
                sum += x;
                size += std::abs(x);
              }
              ASSERT_NEAR(c[static_cast<size_t>(r * columns + j)], sum, static_cast<double>(depth + 2) * 0x1p-24 * size) << kernel.name << " " << rows << " " << depth << " " << columns;
            }
          }
        }
      }
    }
  }
}

TEST(Bf16Product, RowDoesNotDependOnOthers) {
  for (const auto& kernel : running()) {
    const Matrices all(61, 96, 80);
    const auto c = all.times(kernel);
    for (const int64_t rows : {1, 7, 20, 33}) {
      Matrices few(rows, 96, 80);
      const auto d = few.times(kernel);
      ASSERT_TRUE(std::equal(d.begin(), d.end(), c.begin())) << kernel.name << " " << rows;
    }
  }
}

TEST(Bf16Product, KeepsNanAndInfinityInTheirRowAndColumn) {
  for (const auto& kernel : running()) {
    Matrices m(34, 64, 48);
    const auto plain = m.times(kernel);
    m.a[33 * 64 + 3] = 0x7FC0;
    m.b[static_cast<size_t>(m.at(4, 20))] = 0x7F80;
    const auto c = m.times(kernel);
    for (int64_t r = 0; r < 34; ++r) {
      for (int64_t j = 0; j < 48; ++j) {
        const float x = c[static_cast<size_t>(r * 48 + j)];
        if (r == 33) ASSERT_TRUE(std::isnan(x)) << kernel.name;
        else if (j == 20) ASSERT_FALSE(std::isfinite(x)) << kernel.name;
        else ASSERT_EQ(x, plain[static_cast<size_t>(r * 48 + j)]) << kernel.name;
      }
    }
  }
}

TEST(Bf16Product, PairsRowsAndColumns) {
  for (const int64_t rows : {1, 2, 5, 31, 32, 40}) {
    const int64_t padded = (rows + 31) / 32 * 32, width = 64;
    std::vector<uint16_t> x(static_cast<size_t>(rows * width)), paired(static_cast<size_t>(padded * width), 7), turned = paired;
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i + 1);
    pair_rows(x.data(), rows, width, padded, paired.data());
    pair_columns(x.data(), rows, width, padded, turned.data());
    const auto index = [](int64_t depth, int64_t k, int64_t j) { return static_cast<size_t>(j / 16 * depth * 16 + (k / 2 * 16 + j % 16) * 2 + k % 2); };
    for (int64_t r = 0; r < padded; ++r) {
      for (int64_t j = 0; j < width; ++j) {
        const int expected = r < rows ? x[static_cast<size_t>(r * width + j)] : 0;
        ASSERT_EQ(paired[index(padded, r, j)], expected);
        ASSERT_EQ(turned[index(width, j, r)], expected);
      }
    }
  }
}

}  // namespace
}  // namespace deepseek::kernels
