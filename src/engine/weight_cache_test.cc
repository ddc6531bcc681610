// Packed weights come back bit for bit; a file that is cut, changed, of another version or model is as good as none.
#include "engine/weight_cache.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <thread>

#include "engine/weights.h"

namespace deepseek::engine {
namespace {

namespace fs = base::fs;

class WeightCache : public ::testing::Test {
 protected:
  WeightCache() : folder_(fs::temp_directory_path() / ("deepseek-weight-cache-test-" + std::to_string(::getpid()))) { fs::create_directories(folder_); }
  ~WeightCache() override { fs::remove_all(folder_); }

  // As large as two chunks, and small ones.
  std::vector<kernels::PackedMatrix> matrices() {
    std::vector<kernels::PackedMatrix> out;
    out.emplace_back(kernels::packed_formats::kF32, 1200, 1000);
    out.emplace_back(kernels::packed_formats::kQ6_K, 17, 256);
    out.emplace_back(kernels::packed_formats::kQ5_0, 3, 31);
    std::vector<float> row(1000);
    for (int64_t r = 0; r < 1200; ++r) {
      for (size_t c = 0; c < row.size(); ++c) row[c] = static_cast<float>(r * 1000) + static_cast<float>(c);
      out[0].set_row(r, row);
    }
    return out;
  }
  static std::vector<const kernels::PackedMatrix*> pointers(const std::vector<kernels::PackedMatrix>& all) {
    std::vector<const kernels::PackedMatrix*> out;
    for (const auto& matrix : all) out.push_back(&matrix);
    return out;
  }
  bool opens(uint64_t stamp = 7) { return read_weight_cache(file_, stamp, team_).has_value(); }
  std::string content() { return *base::read_file(file_); }
  void put(const std::string& bytes) { ASSERT_TRUE(base::write_file_atomically(file_, bytes)); }

  fs::path folder_, file_ = folder_ / "m.packed";
  hardware::Team team_{2};
};

TEST_F(WeightCache, ComesBackBitForBit) {
  const auto all = matrices();
  ASSERT_TRUE(write_weight_cache(file_, 7, pointers(all)));
  auto read = read_weight_cache(file_, 7, team_);
  ASSERT_TRUE(read);
  ASSERT_EQ(read->matrices.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(read->matrices[i].format(), all[i].format());
    ASSERT_EQ(read->matrices[i].bytes().size(), all[i].bytes().size());
    EXPECT_EQ(std::memcmp(read->matrices[i].bytes().data(), all[i].bytes().data(), all[i].bytes().size()), 0) << i;
  }
}

TEST_F(WeightCache, WhatIsNotWholeIsNotRead) {
  EXPECT_FALSE(opens());
  const auto all = matrices();
  ASSERT_TRUE(write_weight_cache(file_, 7, pointers(all)));
  const std::string good = content();
  EXPECT_TRUE(opens());
  EXPECT_FALSE(opens(8)) << "another model's";
  for (const size_t size : {size_t{0}, size_t{7}, size_t{40}, size_t{100}, good.size() / 2, good.size() - 1}) {
    put(good.substr(0, size));
    EXPECT_FALSE(opens()) << "cut to " << size;
  }
  put(good + "x");
  EXPECT_FALSE(opens()) << "longer";
  for (size_t at = 0; at < good.size(); at += at < 300 ? 1 : 99'991) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    put(bad);
    // Padding between table and matrices is nobody's.
    if (opens()) {
      EXPECT_LT(at, 320u) << "changed at " << at;
    }
  }
  put(good);
  EXPECT_TRUE(opens());
}

TEST_F(WeightCache, TwoProcessesMayWriteAtOnce) {
  const auto all = matrices();
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) writers.emplace_back([&] { EXPECT_TRUE(write_weight_cache(file_, 7, pointers(all))); });
  for (auto& writer : writers) writer.join();
  EXPECT_TRUE(opens());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1) << "temporary files stayed";
}

TEST_F(WeightCache, ASecondStartReadsItAndAChangedModelDoesNot) {
  const fs::path model = folder_ / "model";
  fs::copy(DEEPSEEK_SOURCE_DIR "/tests/golden/models/gemma3", model);
  const auto pack = [&] {
    auto checkpoint = models::DecoderCheckpoint::open(model);
    EXPECT_TRUE(checkpoint);
    auto weights = pack_checkpoint(*checkpoint, team_, {.cache = true, .smallest_cache = 0});
    EXPECT_TRUE(weights);
    return std::move(*weights);
  };
  const PackedWeights first = pack(), second = pack();
  EXPECT_TRUE(fs::exists(model / "weights.packed"));
  EXPECT_EQ(first.memory, nullptr);
  EXPECT_NE(second.memory, nullptr);
  ASSERT_EQ(first.matrices().size(), second.matrices().size());
  for (size_t i = 0; i < first.matrices().size(); ++i) {
    const auto a = first.matrices()[i]->bytes(), b = second.matrices()[i]->bytes();
    EXPECT_TRUE(a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0) << i;
  }
  fs::last_write_time(model / "model.safetensors", fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(pack().memory, nullptr);
  EXPECT_NE(pack().memory, nullptr);
}

TEST_F(WeightCache, LiesBesideTheModelOrInTheCacheDirectory) {
  EXPECT_EQ(weight_cache_path(folder_ / "m.gguf"), folder_ / "m.gguf.packed");
  EXPECT_EQ(weight_cache_path(folder_), folder_ / "weights.packed");
  ::setenv("DEEPSEEK_CACHE", (folder_ / "cache").c_str(), 1);
  const fs::path elsewhere = weight_cache_path("/proc/self/m.gguf");
  EXPECT_EQ(elsewhere.parent_path(), folder_ / "cache" / "packed");
  EXPECT_NE(elsewhere, weight_cache_path("/proc/self/n.gguf"));
  ::unsetenv("DEEPSEEK_CACHE");
  // A place that cannot be written is one message, not the end.
  EXPECT_FALSE(write_weight_cache("/proc/none/m.packed", 1, {}));
}

}  // namespace
}  // namespace deepseek::engine
