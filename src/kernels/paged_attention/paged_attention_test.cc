// Every implementation against softmax in f64 over the same rounded keys and values; pages, windows, grouped queries, parts.
#include "kernels/paged_attention/paged_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/paged_attention/test_world.h"

namespace deepseek::kernels {
namespace {

class EveryKernel : public ::testing::TestWithParam<AttentionKernel> {};
INSTANTIATE_TEST_SUITE_P(PagedAttention, EveryKernel, ::testing::ValuesIn(tested_kernels()),
                         [](const auto& info) { return info.param.name; });

TEST_P(EveryKernel, EqualsExactAttention) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  struct Heads {
    int64_t heads, kv_heads, dim;
    KvType type = KvType::kBF16;
  };
  for (const auto& [heads, kv_heads, dim, type] : {Heads{4, 1, 32}, {2, 2, 8}, {6, 2, 20}, {8, 1, 48}, {1, 1, 256}, {4, 1, 32, KvType::kInt8},
                                                   {6, 2, 20, KvType::kInt8}, {1, 1, 256, KvType::kInt8}}) {
    World world(heads, kv_heads, dim, type);
    for (const int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 130, 300}) world.add(length);
    for (const float softcap : {0.0f, 2.0f}) {
      for (const int64_t window : {0, 1, 5, 64, 100}) {
        for (const bool decode : {true, false}) {
          Call call{{}, {heads, 0.3f, softcap, window}, 2};
          int64_t rows = 0;
          for (const auto& s : world.sequences) {
            call.counts.push_back(decode ? 1 : (s.length + 1) / 2);
            rows += call.counts.back();
          }
          const auto q = world.draw(rows * heads * dim, 2.0f);
          ASSERT_LE(error(world, call, q, run(GetParam(), world, call, q)), kBound)
              << heads << " heads, " << kv_heads << " of keys, dim " << dim << ", softcap " << softcap << ", window " << window << ", decode " << decode << (type == KvType::kInt8 ? ", int8" : "");
        }
      }
    }
  }
}

TEST_P(EveryKernel, PartsOfOneSequenceJoin) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  World world(4, 1, 64);
  world.add(2000);
  const auto q = world.draw(4 * 64, 3.0f);
  for (const int64_t window : {0, 512, 1990}) {
    for (const int threads : {1, 2, 3, 8}) {
      const Call call{{1}, {4, 0.25f, 0.0f, window}, threads};
      ASSERT_LE(error(world, call, q, run(GetParam(), world, call, q)), kBound) << threads << " threads, window " << window;
    }
  }
}

TEST_P(EveryKernel, NeighboursDoNotChangeASequence) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  World world(4, 2, 32);
  for (const int64_t length : {70, 200, 3}) world.add(length);
  const auto q = world.draw(3 * 4 * 32, 1.0f);
  const auto all = run(GetParam(), world, {{1, 1, 1}, {4, 0.2f, 0.0f, 0}, 1}, q);
  const auto alone = run(GetParam(), world, {{1}, {4, 0.2f, 0.0f, 0}, 1}, {q.begin(), q.begin() + 4 * 32});
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(alone[i], all[i]);
}

// As many as speculation guesses and checks: the text must not depend on whether it guesses.
TEST_P(EveryKernel, TokensTogetherAreAsOneByOne) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr int64_t kTogether = 12;
  if (GetParam().rows_from > 0 && GetParam().rows_from <= kTogether) GTEST_SKIP() << "no kernel of the list takes so few as rows";
  for (const int64_t group : {1, 3, 4}) {
    for (const int64_t begin : {5, 44, 58, 107, 172}) {
      for (const int64_t window : {0, 100}) {
        for (const float softcap : {0.0f, 20.0f}) {
          World world(group, 1, 48);
          world.add(begin + kTogether);
          const auto q = world.draw(kTogether * group * 48, 2.0f);
          const PagedAttentionOptions options{group, 0.5f, softcap, window, {}};
          const auto together = run(GetParam(), world, {{kTogether}, options, 1}, q);
          for (int64_t t = 0; t < kTogether; ++t) {
            world.sequences[0].length = begin + t + 1;
            const auto alone = run(GetParam(), world, {{1}, options, 1}, {q.begin() + t * group * 48, q.begin() + (t + 1) * group * 48});
            for (size_t i = 0; i < alone.size(); ++i) {
              ASSERT_EQ(alone[i], together[static_cast<size_t>(t * group * 48) + i]) << "group " << group << ", from " << begin << ", window " << window << ", token " << t;
            }
          }
        }
      }
    }
  }
}

TEST_P(EveryKernel, HugeScoresAndNan) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  World world(1, 1, 16);
  world.add(100);
  auto q = world.draw(16, 1e6f);
  const Call call{{1}, {1, 1.0f, 0.0f, 0}, 1};
  for (const float value : run(GetParam(), world, call, q)) EXPECT_TRUE(std::isfinite(value));
  q[3] = std::numeric_limits<float>::quiet_NaN();
  for (const float value : run(GetParam(), world, call, q)) EXPECT_TRUE(std::isnan(value));
}

TEST_P(EveryKernel, APageThatHeldNanIsCleanForTheNextSequence) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  for (const KvType type : {KvType::kBF16, KvType::kInt8}) {
    World world(1, 1, 16, type, 1);
    const std::vector<float> bad(16, std::numeric_limits<float>::quiet_NaN());
    const int32_t page = *world.pool.take();
    for (int64_t slot = 0; slot < kPageTokens; ++slot) world.pool.store(1, 0, page, slot, bad.data(), bad.data());
    world.pool.give_back(page);
    world.add(5);
    for (const float value : run(GetParam(), world, {{1}, {1, 1.0f, 0.0f, 0}, 1}, world.draw(16, 1.0f))) EXPECT_TRUE(std::isfinite(value));
  }
}

// Scales that are a bf16 already, whose inverse is rounded up: the largest element comes to 127 and a rounding.
TEST(KvPool, TheLargestElementStaysTheLargestInInt8) {
  for (const float largest : {1.29449463f, 2.58898926f, 10.355957f, 1.40301514f, 127.0f, 1.0f, 1e-30f, 3e38f}) {
    auto pool = KvPool::create(1, 1, 32, 1, KvType::kInt8);
    ASSERT_TRUE(pool);
    const int32_t page = *pool->take();
    std::vector<float> key(32, 0.0f), value(32, 0.0f);
    key[5] = largest;
    value[9] = -largest;
    pool->store(0, 0, page, 3, key.data(), value.data());
    std::vector<uint16_t> scratch(2 * kPageTokens * 32);
    const uint16_t* read = pool->read(0, 0, page, 0, kPageTokens, scratch.data());
    EXPECT_NEAR(bf16_to_f32(read[5 / 2 * 2 * kKeyTile + 3 * 2 + 1]) / largest, 1.0, 0x1p-7) << largest;
    EXPECT_NEAR(bf16_to_f32(read[kPageTokens * 32 + 2 * 32 + 9 * 2 + 1]) / largest, -1.0, 0x1p-7) << largest;
  }
}

TEST_P(EveryKernel, KeysAndValuesInInt8ThatAreNotFiniteShow) {
  if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    World world(1, 1, 16, KvType::kInt8);
    world.add(20);
    std::vector<float> key = world.draw(16, 1.0f), value = key;
    key[3] = bad;
    world.pool.store(1, 0, world.sequences[0].pages[0], 7, key.data(), value.data());
    for (const float out : run(GetParam(), world, {{1}, {1, 1.0f, 0.0f, 0}, 1}, world.draw(16, 1.0f))) EXPECT_TRUE(std::isnan(out));
  }
}

TEST(PagedAttention, TheSelfCheckFindsAWrongKernel) {
  for (const auto& kernel : tested_kernels()) {
    if (!kernel.declines().empty()) continue;
    EXPECT_TRUE(agrees_with_reference(kernel)) << kernel.name;
  }
  const auto wrong = [](const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
    attend_emulated(keys, width, softcap, tile);
    tile.out[tile.count * width - 1] += 1.0f;
  };
  EXPECT_FALSE(agrees_with_reference({"wrong", nullptr, wrong, estimate_portable, 1}));
}

TEST(KvPool, PagesRunOutAndComeBack) {
  auto pool = KvPool::create(3, 2, 64, 2);
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->page_bytes(), 3 * 2 * 64 * 64 * 4);
  EXPECT_EQ(KvPool::create(3, 2, 64, 2, KvType::kInt8)->page_bytes(), 3 * 2 * 64 * (64 * 2 + 8));
  const auto a = pool->take(), b = pool->take();
  EXPECT_TRUE(a && b && *a != *b);
  EXPECT_FALSE(pool->take());
  pool->give_back(*a);
  EXPECT_EQ(pool->take(), a);
  EXPECT_THAT(KvPool::create(1000, 64, 256, int64_t{1} << 40).error().message, ::testing::HasSubstr("no room for the keys and values"));
}

}  // namespace
}  // namespace deepseek::kernels
