// Every implementation against softmax in f64 over the same rounded keys and values; pages, windows, grouped queries, parts.
#include "kernels/paged_attention/paged_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/paged_attention/emulated.h"
#include "kernels/paged_attention/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

std::string never() { return ""; }
const AttentionKernel kEmulated{"emulated_amx", never, attend_emulated, estimate_portable, 1};

// Those of the list, and that of AMX on emulated tiles for any number of queries.
std::vector<AttentionKernel> tested_kernels() {
  std::vector<AttentionKernel> all(attention_kernels().begin(), attention_kernels().end());
  all.push_back(kEmulated);
  return all;
}

double rounded(double value) { return bf16_to_f32(f32_to_bf16(static_cast<float>(value))); }

// What the cache gives back of keys or values: in int8 the multiples of a bf16 scale for each 32 dimensions.
std::vector<float> kept(const std::vector<float>& values, int64_t dim, KvType type) {
  std::vector<float> out(values.size());
  for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(dim)) {
    for (int64_t d = 0; d < dim; ++d) {
      const float value = values[begin + static_cast<size_t>(d)];
      float largest = 0;
      for (int64_t e = d / 32 * 32; e < std::min(d / 32 * 32 + 32, dim); ++e) largest = std::max(largest, std::abs(values[begin + static_cast<size_t>(e)]));
      // Rounded up to bf16; the product is rounded to bf16 half away from zero.
      const float scale = bf16_to_f32(static_cast<uint16_t>((std::bit_cast<uint32_t>(largest / 127.0f) + 0xFFFFu) >> 16));
      const float back = std::nearbyint(value * (1.0f / scale)) * scale;
      out[begin + static_cast<size_t>(d)] =
          type == KvType::kBF16 ? static_cast<float>(rounded(value)) : bf16_to_f32(static_cast<uint16_t>((std::bit_cast<uint32_t>(back) + 0x8000u) >> 16));
    }
  }
  return out;
}

struct Sequence {
  std::vector<int32_t> pages;
  std::vector<float> keys, values;  // [length][kv_heads][dim]
  int64_t length = 0;
};

struct World {
  int64_t heads, kv_heads, dim;
  KvPool pool;
  std::mt19937 random{7};
  std::normal_distribution<float> normal;
  std::vector<Sequence> sequences;

  World(int64_t h, int64_t kv, int64_t d, KvType type = KvType::kBF16, int64_t pages = 200)
      : heads(h), kv_heads(kv), dim(d), pool(*KvPool::create(2, kv, d, pages, type, true)) {}

  std::vector<float> draw(int64_t n, float size) {
    std::vector<float> out(static_cast<size_t>(n));
    for (auto& v : out) v = size * normal(random);
    return out;
  }
  void add(int64_t length, int64_t layer = 1) {
    Sequence s{{}, draw(length * kv_heads * dim, 1.0f), draw(length * kv_heads * dim, 1.0f), length};
    for (int64_t t = 0; t < length; ++t) {
      if (t % kPageTokens == 0) s.pages.push_back(*pool.take());
      for (int64_t h = 0; h < kv_heads; ++h) {
        pool.store(layer, h, s.pages.back(), t % kPageTokens, &s.keys[static_cast<size_t>((t * kv_heads + h) * dim)], &s.values[static_cast<size_t>((t * kv_heads + h) * dim)]);
      }
    }
    std::vector<uint16_t> scratch(static_cast<size_t>(2 * kPageTokens * pool.width()));
    for (int64_t p = 0; p < length / kPageTokens; ++p) {
      for (int64_t h = 0; h < kv_heads; ++h) pool.summarise(layer, h, s.pages[static_cast<size_t>(p)], scratch.data());
    }
    s.keys = kept(s.keys, dim, pool.type());
    s.values = kept(s.values, dim, pool.type());
    sequences.push_back(std::move(s));
  }
};

struct Call {
  std::vector<int64_t> counts;  // of new positions, at the end of each sequence
  PagedAttentionOptions options;
  int threads = 1;
};

std::vector<AttentionSequence> views(const World& world, const Call& call) {
  std::vector<AttentionSequence> out;
  int64_t row = 0;
  for (size_t s = 0; s < call.counts.size(); ++s) {
    out.push_back({world.sequences[s].pages, world.sequences[s].length - call.counts[s], call.counts[s], row});
    row += call.counts[s];
  }
  return out;
}

std::vector<float> run(const AttentionKernel& kernel, const World& world, const Call& call, const std::vector<float>& q) {
  std::vector<float> out(q.size(), -777.0f);
  PagedAttention attention;
  attention.plan(views(world, call), world.pool, call.options, call.threads);
  for (int64_t i = attention.estimates(); i-- > 0;) attention.estimate(i, kernel, world.pool, 1, q.data());
  for (int64_t i = attention.choices(); i-- > 0;) attention.choose(i);
  for (int64_t i = attention.items(); i-- > 0;) attention.run(i, kernel, world.pool, 1, q.data(), out.data());
  for (int64_t i = 0; i < attention.merges(); ++i) attention.merge(i, out.data());
  return out;
}

// Largest difference from exact attention, relative to the largest value that takes part.
double error(const World& world, const Call& call, const std::vector<float>& q, const std::vector<float>& got) {
  double worst = 0;
  const auto all = views(world, call);
  for (size_t n = 0; n < all.size(); ++n) {
    const Sequence& s = world.sequences[n];
    for (int64_t t = 0; t < all[n].count; ++t) {
      const int64_t position = all[n].begin + t, first = call.options.window > 0 ? std::max<int64_t>(0, position - call.options.window + 1) : 0;
      for (int64_t h = 0; h < world.heads; ++h) {
        const int64_t kv = h / (world.heads / world.kv_heads);
        const float* query = &q[static_cast<size_t>(((all[n].row + t) * world.heads + h) * world.dim)];
        std::vector<double> scores, out(static_cast<size_t>(world.dim));
        for (int64_t k = first; k <= position; ++k) {
          double score = 0;
          for (int64_t d = 0; d < world.dim; ++d) {
            score += rounded(query[d] * call.options.scale) * s.keys[static_cast<size_t>((k * world.kv_heads + kv) * world.dim + d)];
          }
          scores.push_back(call.options.softcap > 0 ? call.options.softcap * std::tanh(score / call.options.softcap) : score);
        }
        const double best = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (auto& score : scores) sum += score = std::exp(score - best);
        double size = 0;
        for (int64_t k = first; k <= position; ++k) {
          for (int64_t d = 0; d < world.dim; ++d) {
            const double v = s.values[static_cast<size_t>((k * world.kv_heads + kv) * world.dim + d)];
            out[static_cast<size_t>(d)] += scores[static_cast<size_t>(k - first)] / sum * v;
            size = std::max(size, std::abs(v));
          }
        }
        for (int64_t d = 0; d < world.dim; ++d) {
          const double difference = std::abs(got[static_cast<size_t>(((all[n].row + t) * world.heads + h) * world.dim + d)] - out[static_cast<size_t>(d)]);
          worst = std::max(worst, difference / size);
        }
      }
    }
  }
  return worst;
}

// A probability is rounded to bf16, by 2^-9 of itself, above and below the line; sums in f32 add little.
constexpr double kBound = 2 * 0x1p-9 + 1e-4;

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
