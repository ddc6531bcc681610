// Blocks as written and as read, grids against plain rounding, values that are hard to round, and GGUF files that come back.
#include "formats/weights/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>

#include "formats/weights/gguf_write.h"

namespace deepseek::formats {
namespace {

class EveryType : public ::testing::TestWithParam<DType> {
 protected:
  static std::vector<float> normal(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> draw(0.0f, 0.02f);
    std::vector<float> out(count);
    for (auto& value : out) value = draw(random);
    return out;
  }
  static std::vector<float> through(DType type, const std::vector<float>& values, const std::vector<float>& importance = {}) {
    const auto block = block_size(type);
    std::vector<std::byte> bytes(values.size() / static_cast<size_t>(block.elements) * static_cast<size_t>(block.bytes));
    quantize_row(type, values, importance, bytes);
    std::vector<float> out(values.size());
    EXPECT_TRUE(dequantize({"w", type, {static_cast<int64_t>(values.size())}, bytes, 0}, out));
    return out;
  }
  static double error(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& weights = {}) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (weights.empty() ? 1.0 : weights[i]) * std::pow(static_cast<double>(a[i]) - b[i], 2);
    return sum;
  }
};
INSTANTIATE_TEST_SUITE_P(Quantize, EveryType, ::testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(dtype_name(info.param)); });

TEST_P(EveryType, AnyBlockIsWrittenAsItWasRead) {
  std::mt19937 random(11);
  const auto size = static_cast<size_t>(block_size(GetParam()).bytes);
  for (int i = 0; i < 200; ++i) {
    std::vector<std::byte> block(size), again(size, std::byte{0xA5});
    for (auto& byte : block) byte = static_cast<std::byte>(random());
    QuantFields fields;
    read_quant_fields(GetParam(), block.data(), fields);
    write_quant_fields(GetParam(), fields, again.data());
    ASSERT_EQ(block, again);
  }
}

// Against the usual way: scale from the extremes, then nearest levels. bits from the type.
TEST_P(EveryType, ErrsLessThanScalesFromTheExtremes) {
  const auto values = normal(4096, 1);
  const int bits = GetParam() == DType::kQ8_0 ? 8 : GetParam() == DType::kQ6_K ? 6 : GetParam() == DType::kQ5_0 || GetParam() == DType::kQ5_1 || GetParam() == DType::kQ5_K ? 5 : 4;
  const bool mins = GetParam() == DType::kQ4_1 || GetParam() == DType::kQ5_1 || GetParam() == DType::kQ4_K || GetParam() == DType::kQ5_K;
  double plain = 0;
  for (size_t b = 0; b < values.size(); b += 32) {
    const auto [low, high] = std::minmax_element(values.begin() + static_cast<int64_t>(b), values.begin() + static_cast<int64_t>(b) + 32);
    const double top = (1 << bits) - 1, largest = std::max(-*low, *high);
    const double step = mins ? (*high - *low) / top : largest / ((1 << (bits - 1)) - 1), offset = mins ? *low : 0.0;
    for (size_t i = b; i < b + 32; ++i) plain += std::pow(values[i] - (offset + step * std::nearbyint((values[i] - offset) / step)), 2);
  }
  // K types also round their scales.
  EXPECT_LT(error(values, through(GetParam(), values)), (GetParam() == DType::kQ8_0 ? 1.01 : 0.95) * plain);
}

TEST_P(EveryType, ErrorsMoveToWhereTheyCountLess) {
  const auto values = normal(4096, 2);
  std::vector<float> importance(values.size());
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i % 3 == 0 ? 25.0f : 0.2f;
  EXPECT_LE(error(values, through(GetParam(), values, importance), importance), error(values, through(GetParam(), values), importance) * 1.0001);
}

TEST_P(EveryType, HardValuesStayFinite) {
  std::vector<std::vector<float>> rows(6, std::vector<float>(256, 0.0f));
  rows[1].assign(256, 0.75f);
  rows[2].assign(256, -3.0f);
  for (auto& value : rows[3]) value = 1e-42f;
  rows[4] = normal(256, 3);
  rows[4][17] = 4e4f;
  rows[5].assign(256, 1e30f);  // beyond f16: as large as it goes
  for (size_t r = 0; r < rows.size(); ++r) {
    for (const auto& importance : {std::vector<float>(), std::vector<float>(256, 0.0f)}) {
      const auto out = through(GetParam(), rows[r], importance);
      for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_TRUE(std::isfinite(out[i])) << "row " << r;
        const float bound = r == 0 || r == 3 ? 1e-30f : r < 3 ? 0.02f * std::abs(rows[r][i]) : INFINITY;
        ASSERT_NEAR(out[i], rows[r][i], bound) << "row " << r;
      }
    }
  }
}

class GgufWriting : public ::testing::Test {
 protected:
  base::fs::path path_ = base::fs::temp_directory_path() / ("deepseek-gguf-write-" + std::to_string(::getpid()) + ".gguf");
  ~GgufWriting() override { base::fs::remove(path_); }
};

TEST_F(GgufWriting, EverythingComesBack) {
  GgufMetadata metadata;
  metadata.text("general.architecture", "llama");
  metadata.integer("llama.block_count", 7);
  metadata.number("x.f", 0.25f);
  metadata.boolean("x.b", true);
  const std::vector<std::string> words{"a", "", "\xE2\x96\x81z"};
  metadata.texts("x.words", words);
  const std::vector<int32_t> ids{-1, 5};
  metadata.integers("x.ids", ids);
  const std::vector<float> scores{1.5f, -2.0f};
  metadata.numbers("x.scores", scores);
  std::vector<std::byte> small(3 * 4, std::byte{1}), blocks(2 * 18, std::byte{7});
  ASSERT_TRUE(write_gguf(path_, metadata, {{"small", DType::kF32, {3}, small}, {"blocks", DType::kQ4_0, {2, 32}, blocks}}));
  const auto read = Gguf::open(path_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->text("general.architecture"), "llama");
  EXPECT_EQ(read->integer("llama.block_count", 0), 7);
  EXPECT_EQ(read->number("x.f", 0), 0.25);
  EXPECT_TRUE(read->boolean("x.b", false));
  EXPECT_EQ(read->array("x.words")->strings, words);
  EXPECT_EQ(read->array("x.ids")->integers, (std::vector<int64_t>{-1, 5}));
  EXPECT_EQ(read->array("x.scores")->floats, (std::vector<double>{1.5, -2.0}));
  ASSERT_NE(read->find("blocks"), nullptr);
  EXPECT_EQ(read->find("blocks")->shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(std::memcmp(read->find("blocks")->bytes.data(), blocks.data(), blocks.size()), 0);
  EXPECT_EQ(std::memcmp(read->find("small")->bytes.data(), small.data(), small.size()), 0);

  // And its metadata once more, as it lies there.
  GgufMetadata copy;
  for (const auto& [key, value] : read->stored_metadata()) copy.stored(key, value);
  EXPECT_EQ(copy.bytes(), metadata.bytes());
}

TEST_F(GgufWriting, WhatDoesNotFitIsRefused) {
  std::vector<std::byte> bytes(12);
  const auto refused = [&](std::vector<TensorToWrite> tensors) { return write_gguf(path_, {}, tensors).error().message; };
  EXPECT_THAT(refused({{"a", DType::kF32, {4}, bytes}}), ::testing::HasSubstr("12 bytes do not match type F32 and shape [4]"));
  EXPECT_THAT(refused({{"a", DType::kF32, {3}, bytes}, {"a", DType::kF32, {3}, bytes}}), ::testing::HasSubstr("given twice"));
  EXPECT_THAT(refused({{"a", DType::kBool, {12}, bytes}}), ::testing::HasSubstr("GGUF has no type BOOL"));
  EXPECT_FALSE(base::fs::exists(path_));
}

}  // namespace
}  // namespace deepseek::formats
