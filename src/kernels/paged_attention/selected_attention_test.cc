// Attention over chosen tiles of keys: what is read, that it is attended exactly, and that a row depends on nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/paged_attention/test_world.h"

namespace deepseek::kernels {
namespace {

using Mode = SelectionOptions::Mode;

class EveryKernel : public ::testing::TestWithParam<AttentionKernel> {
 protected:
  void SetUp() override {
    if (const std::string reason = GetParam().declines(); !reason.empty()) GTEST_SKIP() << reason;
  }
};
INSTANTIATE_TEST_SUITE_P(SelectedAttention, EveryKernel, ::testing::ValuesIn(tested_kernels()), [](const auto& info) { return info.param.name; });

SelectionOptions ratio(float share) { return {.mode = Mode::kRatio, .ratio = share, .dense_below = 0}; }

// Tiles of any pages, read by any of the queries, some cut by their positions.
TEST_P(EveryKernel, AListOfTilesIsAttendedExactly) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const auto& [width, count] : {std::pair<int64_t, int64_t>{16, 1}, {48, 5}, {64, 16}, {256, 3}, {256, 16}}) {
    for (const bool rows : {false, true}) {
      if (rows ? GetParam().rows_from == 0 : GetParam().rows_from == 1) continue;
      constexpr int64_t kTiles = 7;
      std::vector<uint16_t> keys(static_cast<size_t>(kTiles * kKeyTile * width)), values(keys.size()), q(static_cast<size_t>(count * width));
      for (auto* all : {&keys, &values, &q}) {
        for (auto& x : *all) x = f32_to_bf16(0.5f * normal(random));
      }
      std::vector<float> out(q.size(), 0.0f);
      QueryTile tile{.count = count, .rows = rows, .q = q.data(), .out = out.data()};
      std::vector<uint32_t> readers(kTiles);
      for (auto& bits : readers) bits = static_cast<uint32_t>(random() & random());
      readers[2] = ~0u;  // no query reads nothing
      for (int64_t t = 0; t < count; ++t) {
        tile.first[t] = t / 6;
        tile.last[t] = 5 * kKeyTile * 10 + t;  // inside the sixth tile, whose position is 800
        tile.best[t] = -std::numeric_limits<float>::infinity();
        tile.sum[t] = 0;
      }
      for (int64_t at = 0; at < kTiles; at += KeyTiles::kMost) {
        KeyTiles list;
        for (int64_t i = at; i < std::min<int64_t>(kTiles, at + KeyTiles::kMost); ++i) {
          list.keys[list.count] = keys.data() + i * kKeyTile * width;
          list.values[list.count] = values.data() + i * kKeyTile * width;
          list.positions[list.count] = i * kKeyTile * 10;
          list.readers[list.count++] = readers[static_cast<size_t>(i)];
        }
        GetParam().attend(list, width, 0.0f, tile);
      }
      for (int64_t t = 0; t < count; ++t) {
        std::vector<double> expected(static_cast<size_t>(width), 0.0);
        std::vector<std::pair<double, int64_t>> scores;  // and the key's index
        for (int64_t i = 0; i < kTiles * kKeyTile; ++i) {
          const int64_t position = i / kKeyTile * kKeyTile * 10 + i % kKeyTile;
          if ((readers[static_cast<size_t>(i / kKeyTile)] >> t & 1u) == 0 || position < tile.first[t] || position > tile.last[t]) continue;
          double score = 0;
          for (int64_t d = 0; d < width; ++d) {
            const size_t from = static_cast<size_t>(rows ? t * width + d : (d / 2 * count + t) * 2 + d % 2);
            score += double{bf16_to_f32(q[from])} * bf16_to_f32(keys[static_cast<size_t>(i / kKeyTile * kKeyTile * width + (d / 2 * kKeyTile + i % kKeyTile) * 2 + d % 2)]);
          }
          scores.emplace_back(score, i);
        }
        double best = -std::numeric_limits<double>::infinity(), sum = 0, largest = 0;
        for (const auto& [score, i] : scores) best = std::max(best, score);
        for (const auto& [score, i] : scores) {
          const double weight = std::exp(score - best);
          sum += weight;
          for (int64_t d = 0; d < width; ++d) {
            const double v = bf16_to_f32(values[static_cast<size_t>(i / kKeyTile * kKeyTile * width + (i % kKeyTile / 2 * width + d) * 2 + i % 2)]);
            largest = std::max(largest, std::abs(v));
            expected[static_cast<size_t>(d)] += weight * v;
          }
        }
        for (int64_t d = 0; d < width; ++d) {
          ASSERT_NEAR(out[static_cast<size_t>(t * width + d)] / tile.sum[t], expected[static_cast<size_t>(d)] / sum, kBound * largest)
              << "width " << width << ", query " << t << " of " << count << (rows ? " as rows" : "") << ", dimension " << d;
        }
      }
    }
  }
}

TEST_P(EveryKernel, EstimatesAreTheProducts) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const int64_t width : {16, 48, 64, 256}) {
    std::vector<uint16_t> summaries(static_cast<size_t>(16 * 2 * width)), q(static_cast<size_t>(4 * 2 * width));
    for (auto* all : {&summaries, &q}) {
      for (auto& x : *all) x = f32_to_bf16(normal(random));
    }
    const uint16_t* pages[4];
    for (int64_t p = 0; p < 4; ++p) pages[p] = summaries.data() + (3 - p) * 8 * width;
    for (const int64_t count : {1, 2, 3, 4}) {
      float got[4][16];
      GetParam().estimate(pages, q.data(), count, width, got);
      for (int64_t i = 0; i < 16 * count; ++i) {
        double expected = 0, size = 0;
        for (int64_t d = 0; d < 2 * width; ++d) {
          const double term = double{bf16_to_f32(pages[i % 16 / 4][KvPool::summary_at(i % 4, d)])} * bf16_to_f32(q[static_cast<size_t>(i / 16 * 2 * width + d)]);
          expected += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(got[i / 16][i % 16], expected, 0x1p-23 * 16 * size) << "width " << width << ", estimator " << i / 16 << " of " << count << ", tile " << i % 16;
      }
    }
  }
}

TEST(KvPool, SummariesAreMeanAndHalfVariance) {
  for (const KvType type : {KvType::kBF16, KvType::kInt8}) {
    World world(2, 2, 20, type);
    world.add(130);
    const auto& s = world.sequences[0];
    for (int64_t tile = 0; tile < 8; ++tile) {
      for (int64_t h = 0; h < 2; ++h) {
        const uint16_t* page = world.pool.summary(1, h, s.pages[static_cast<size_t>(tile / kPageTiles)]);
        const auto summary = [&](int64_t d) { return bf16_to_f32(page[KvPool::summary_at(tile % kPageTiles, d)]); };
        for (int64_t d = 0; d < 20; ++d) {
          double mean = 0, squares = 0;
          for (int64_t k = tile * kKeyTile; k < (tile + 1) * kKeyTile; ++k) {
            const double x = s.keys[static_cast<size_t>((k * 2 + h) * 20 + d)];
            mean += x / kKeyTile;
            squares += x * x / kKeyTile;
          }
          EXPECT_NEAR(summary(d), mean, std::abs(mean) * 0x1p-8 + 1e-6);
          EXPECT_NEAR(summary(world.pool.width() + d), (squares - mean * mean) / 2, squares * 0x1p-8 + 1e-6);
        }
      }
    }
  }
}

TEST_P(EveryKernel, AllKeysAreExactAttentionAtEveryLength) {
  const SelectionOptions all = ratio(1);
  for (int64_t length = 1; length <= 300; ++length) {
    if (length > 40 && length % 7 != 0 && length % 16 > 1 && length % 16 != 15) continue;
    World world(2, 1, 16);
    world.add(length);
    for (const int64_t count : {int64_t{1}, std::min<int64_t>(length, 5), length}) {
      const Call call{{count}, {2, 0.3f, 0.0f, 0, {&all, 1}}, 2};
      const auto q = world.draw(count * 2 * 16, 2.0f);
      ASSERT_LE(error(world, call, q, run(GetParam(), world, call, q)), kBound) << length << " positions, " << count << " new";
    }
  }
  for (const int64_t length : {2046, 2047, 2048, 2049}) {
    World world(4, 2, 16);
    world.add(length);
    for (const int64_t count : {1, 12, 13, 70}) {
      const Call call{{count}, {4, 0.3f, 0.0f, 0, {&all, 1}}, 2};
      const auto q = world.draw(count * 4 * 16, 2.0f);
      ASSERT_LE(error(world, call, q, run(GetParam(), world, call, q)), kBound) << length << " positions, " << count << " new";
    }
  }
}

// Keys that lie around a centre of their tile, as neighbours in text do. Values that name their tile: a dimension of the output is the share of
// a tile, 0 exactly where it was not read.
constexpr int64_t kDim = 256, kLength = kDim * kKeyTile;
struct Marked : World {
  explicit Marked(int64_t heads, int64_t kv_heads = 1, KvType type = KvType::kBF16) : World(heads, kv_heads, kDim, type) {
    add(kLength);
    Sequence& s = sequences[0];
    std::vector<float> centres;
    std::vector<uint16_t> scratch(static_cast<size_t>(2 * kPageTokens * kDim));
    for (int64_t t = 0; t < kLength; ++t) {
      if (t % kKeyTile == 0) centres = draw(kv_heads * kDim, 1.0f);
      const int32_t page = s.pages[static_cast<size_t>(t / kPageTokens)];
      for (int64_t h = 0; h < kv_heads; ++h) {
        float *key = &s.keys[static_cast<size_t>((t * kv_heads + h) * kDim)], *value = &s.values[static_cast<size_t>((t * kv_heads + h) * kDim)];
        for (int64_t d = 0; d < kDim; ++d) {
          key[d] = centres[static_cast<size_t>(h * kDim + d)] + 0.5f * key[d];
          value[d] = d == t / kKeyTile ? 1.0f : 0.0f;
        }
        pool.store(1, h, page, t % kPageTokens, key, value);
        if (t % kPageTokens == kPageTokens - 1) pool.summarise(1, h, page, scratch.data());
      }
    }
    s.keys = kept(s.keys, kDim, type);
  }
  // Exact shares of the tiles before `end`, of the query of one head.
  std::vector<double> shares(const float* query, float scale, int64_t head, int64_t position) const {
    const Sequence& s = sequences[0];
    std::vector<double> out(static_cast<size_t>(kDim)), scores;
    for (int64_t k = 0; k <= position; ++k) {
      double score = 0;
      for (int64_t d = 0; d < kDim; ++d) score += rounded(query[d] * scale) * s.keys[static_cast<size_t>((k * kv_heads + head) * kDim + d)];
      scores.push_back(score);
    }
    const double best = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (auto& score : scores) sum += score = std::exp(score - best);
    for (int64_t k = 0; k <= position; ++k) out[static_cast<size_t>(k / kKeyTile)] += scores[static_cast<size_t>(k)] / sum;
    return out;
  }
};
std::set<int64_t> tiles_read(const float* out) {
  std::set<int64_t> read;
  for (int64_t d = 0; d < kDim; ++d) {
    if (out[d] != 0) read.insert(d);
  }
  return read;
}

TEST_P(EveryKernel, ReadsWhatIsNearAndTheLargestShares) {
  Marked world(2, 2);
  for (const float share : {0.1f, 0.3f, 0.6f}) {
    const SelectionOptions options = ratio(share);
    for (const int64_t count : {1, 3, 40}) {
      const Call call{{count}, {2, 0.1f, 0.0f, 0, {&options, 1}}, 1};
      auto q = world.draw(count * 2 * kDim, 1.0f);
      for (size_t i = 2 * kDim; i < q.size(); ++i) q[i] = q[i % (2 * kDim)] + 0.3f * q[i];  // neighbours look for much the same
      const auto out = run(GetParam(), world, call, q);
      for (const int64_t token : {int64_t{0}, count / 2, count - 1}) {
        for (int64_t h = 0; h < 2; ++h) {
          const size_t row = static_cast<size_t>((token * 2 + h) * kDim);
          const int64_t position = kLength - count + token;
          const auto read = tiles_read(&out[row]);
          auto exact = world.shares(&q[row], 0.1f, h, position);
          const int64_t tiles = position / kKeyTile + 1;
          EXPECT_TRUE(read.contains(0));
          for (int64_t tile = (position / kPageTokens - 1) * kPageTiles; tile < tiles; ++tile) EXPECT_TRUE(read.contains(tile)) << tile;
          EXPECT_NEAR(static_cast<double>(read.size()), std::ceil(share * static_cast<double>(tiles)), 1) << "of " << tiles;
          double mass = 0, reach = 0;
          for (const int64_t tile : read) mass += exact[static_cast<size_t>(tile)];
          // The read tiles are attended exactly.
          for (const int64_t tile : read) ASSERT_NEAR(out[row + static_cast<size_t>(tile)], exact[static_cast<size_t>(tile)] / mass, kBound);
          std::sort(exact.rbegin(), exact.rend());
          for (size_t i = 0; i < read.size(); ++i) reach += exact[i];
          // Of what the best choice of as many tiles holds; blocks of 16 choose together.
          EXPECT_GE(mass, (count > 12 ? 0.75 : 0.85) * reach) << "share " << share << ", " << count << " new";
        }
      }
    }
  }
}

TEST_P(EveryKernel, ANeedleIsFound) {
  for (const KvType type : {KvType::kBF16, KvType::kInt8}) {
    for (const int64_t needle : {70, 1000, 2345, 3850}) {
      Marked world(1, 1, type);
      auto q = world.draw(40 * kDim, 1.0f);
      // Queries that look for one thing, and a phrase of six positions that has it.
      for (size_t i = kDim; i < q.size(); ++i) q[i] = q[i % kDim] + 0.1f * q[i];
      std::vector<float> value(kDim, 0.0f);
      value[static_cast<size_t>(needle / kKeyTile)] = 1.0f;
      const int32_t page = world.sequences[0].pages[static_cast<size_t>(needle / kPageTokens)];
      for (int64_t i = 0; i < 6; ++i) world.pool.store(1, 0, page, needle % kPageTokens + i, q.data(), value.data());
      std::vector<uint16_t> scratch(static_cast<size_t>(2 * kPageTokens * world.pool.width()));
      world.pool.summarise(1, 0, page, scratch.data());
      const SelectionOptions options = ratio(0.08f);
      for (const int64_t count : {1, 12, 40}) {
        const auto some = std::vector<float>(q.begin(), q.begin() + count * kDim);
        const auto out = run(GetParam(), world, {{count}, {1, 0.1f, 0.0f, 0, {&options, 1}}, 1}, some);
        for (int64_t t = 0; t < count; ++t) EXPECT_GT(out[static_cast<size_t>(t * kDim + needle / kKeyTile)], 0.5f) << needle << ", token " << t << " of " << count;
      }
    }
  }
}

TEST_P(EveryKernel, APeakedRowReadsLessThanADiffuseOne) {
  Marked world(1);
  const SelectionOptions options{.mode = Mode::kTopP, .top_p = 0.9f, .least = 64, .dense_below = 0};
  const auto q = world.draw(kDim, 1.0f);
  std::vector<size_t> sizes;
  for (const float scale : {0.001f, 0.2f, 1.0f}) {
    const auto out = run(GetParam(), world, {{1}, {1, scale, 0.0f, 0, {&options, 1}}, 1}, q);
    const auto read = tiles_read(out.data());
    const auto exact = world.shares(q.data(), scale, 0, kLength - 1);
    double mass = 0;
    for (const int64_t tile : read) mass += exact[static_cast<size_t>(tile)];
    EXPECT_GT(mass, 0.8) << scale;
    sizes.push_back(read.size());
  }
  EXPECT_GT(sizes[0], 220u);
  EXPECT_LT(sizes[1], sizes[0]);
  EXPECT_LT(sizes[2], sizes[1]);
}

TEST_P(EveryKernel, PiecesOfWholeBlocksGiveTheSameBits) {
  World world(2, 1, 32);
  world.add(1500);
  const SelectionOptions options = ratio(0.3f);
  const int64_t count = 1500 - 480;
  const auto q = world.draw(count * 2 * 32, 2.0f);
  const auto whole = run(GetParam(), world, {{count}, {2, 0.3f, 0.0f, 0, {&options, 1}}, 1}, q);
  std::vector<float> pieces;
  const Sequence all = world.sequences[0];
  for (int64_t at = 480; at < 1500;) {
    const int64_t next = std::min<int64_t>(1500, at + 16 * (1 + at % 5));
    world.sequences[0].length = next;
    const auto part = run(GetParam(), world, {{next - at}, {2, 0.3f, 0.0f, 0, {&options, 1}}, 1}, {q.begin() + (at - 480) * 64, q.begin() + (next - 480) * 64});
    if (next - at <= 12) break;  // the end, which chooses for each position
    pieces.insert(pieces.end(), part.begin(), part.end());
    at = next;
  }
  ASSERT_GT(pieces.size(), whole.size() * 9 / 10);
  for (size_t i = 0; i < pieces.size(); ++i) ASSERT_EQ(pieces[i], whole[i]) << "row " << i / 64;
}

TEST_P(EveryKernel, TheFirstPositionsReadAllInAnyPieces) {
  Marked world(1);
  SelectionOptions options = ratio(0.1f);
  options.dense_below = kLength - 32;  // where a block ends
  const auto q = world.draw(60 * kDim, 1.0f);
  const auto whole = run(GetParam(), world, {{60}, {1, 0.05f, 0.0f, 0, {&options, 1}}, 1}, q);
  for (const int64_t t : {0, 20, 27}) EXPECT_EQ(static_cast<int64_t>(tiles_read(&whole[static_cast<size_t>(t * kDim)]).size()), (kLength - 60 + t) / kKeyTile + 1) << t;
  EXPECT_LT(tiles_read(&whole[static_cast<size_t>(59 * kDim)]).size(), 30u);
  for (const int64_t t : {25, 27, 28, 40}) {
    world.sequences[0].length = kLength - 60 + t + 1;
    const auto alone = run(GetParam(), world, {{1}, {1, 0.05f, 0.0f, 0, {&options, 1}}, 1}, {q.begin() + t * kDim, q.begin() + (t + 1) * kDim});
    EXPECT_EQ(tiles_read(alone.data()).size() > 200, t < 28) << t;
  }
}

TEST_P(EveryKernel, FewTogetherReadWhatEachReadsAlone) {
  Marked world(4, 2);
  const SelectionOptions options = ratio(0.2f);
  const auto q = world.draw(12 * 4 * kDim, 1.0f);
  const auto together = run(GetParam(), world, {{12}, {4, 0.15f, 0.0f, 0, {&options, 1}}, 2}, q);
  for (int64_t t = 0; t < 12; ++t) {
    world.sequences[0].length = kLength - 11 + t;
    const auto alone = run(GetParam(), world, {{1}, {4, 0.15f, 0.0f, 0, {&options, 1}}, 2}, {q.begin() + t * 4 * kDim, q.begin() + (t + 1) * 4 * kDim});
    for (int64_t h = 0; h < 4; ++h) {
      const float *a = &together[static_cast<size_t>((t * 4 + h) * kDim)], *b = &alone[static_cast<size_t>(h * kDim)];
      EXPECT_EQ(tiles_read(a), tiles_read(b)) << "token " << t << ", head " << h;
      for (int64_t d = 0; d < kDim; ++d) ASSERT_NEAR(a[d], b[d], kBound);
    }
  }
}

TEST_P(EveryKernel, HeadsMayReadUnlikeAmounts) {
  Marked world(4, 2);
  const std::vector<SelectionOptions> each{ratio(0.1f), SelectionOptions::all(), ratio(0.3f), ratio(0.3f)};
  const auto read_by = [&](const std::vector<float>& out, int64_t token, int64_t head) { return tiles_read(&out[static_cast<size_t>((token * 4 + head) * kDim)]); };
  for (const int64_t count : {40, 1, 5}) {
    const auto q = world.draw(count * 4 * kDim, 1.0f);
    const auto run_with = [&](std::span<const SelectionOptions> selections) { return run(GetParam(), world, {{count}, {4, 0.15f, 0.0f, 0, selections}, 2}, q); };
    const auto got = run_with(each), tenth = run_with({&each[0], 1}), third = run_with({&each[2], 1});
    for (int64_t t = 0; t < count; ++t) {
      const auto visible = static_cast<size_t>((kLength - count + t) / kKeyTile + 1);
      // Heads 2 and 3 are alike: as if all heads read that much.
      for (const int64_t h : {2, 3}) EXPECT_EQ(read_by(got, t, h), read_by(third, t, h)) << count << " new, token " << t;
      EXPECT_EQ(read_by(got, t, 1).size(), visible);
      // A prompt's heads choose for themselves; few positions read together what one of the heads wants.
      if (count > 12) EXPECT_EQ(read_by(got, t, 0), read_by(tenth, t, 0)) << "token " << t;
      else EXPECT_EQ(read_by(got, t, 0).size(), visible);
    }
  }
  // One position whose heads want 0.1 and 0.3: all that one of them chooses, no more than both.
  const std::vector<SelectionOptions> unlike{ratio(0.1f), ratio(0.3f), ratio(0.1f), ratio(0.1f)};
  const auto q = world.draw(4 * kDim, 1.0f);
  const auto both = read_by(run(GetParam(), world, {{1}, {4, 0.15f, 0.0f, 0, unlike}, 2}, q), 0, 0);
  EXPECT_GE(both.size(), 0.3 * kDim);
  EXPECT_LE(both.size(), 0.4 * kDim + 12);
}

TEST_P(EveryKernel, TheMassThatIsKeptIsEstimated) {
  Marked world(4, 2);
  for (const int64_t count : {1, 40}) {
    const auto q = world.draw(count * 4 * kDim, 1.0f);
    for (const float share : {0.1f, 0.4f}) {
      const SelectionOptions options = ratio(share);
      TileCount all;
      const auto out = run(GetParam(), world, {{count}, {4, 0.1f, 0.0f, 0, {&options, 1}}, 2}, q, &all);
      double mass = 0;
      for (int64_t row = 0; row < count * 4; ++row) {
        const auto exact = world.shares(&q[static_cast<size_t>(row * kDim)], 0.1f, row % 4 / 2, kLength - count + row / 4);
        for (const int64_t tile : tiles_read(&out[static_cast<size_t>(row * kDim)])) mass += exact[static_cast<size_t>(tile)];
      }
      EXPECT_EQ(all.queries, count * 4);
      EXPECT_NEAR(all.mass_kept(), mass / static_cast<double>(count * 4), 0.05) << count << " new, share " << share;
      // The same for any number of threads.
      TileCount threads;
      run(GetParam(), world, {{count}, {4, 0.1f, 0.0f, 0, {&options, 1}}, 8}, q, &threads);
      EXPECT_EQ(threads.mass, all.mass);
      EXPECT_EQ(threads.read, all.read);
    }
    TileCount dense;
    run(GetParam(), world, {{count}, {4, 0.1f, 0.0f, 0, {}}, 2}, q, &dense);
    EXPECT_EQ(dense.mass_kept(), 1.0);
    EXPECT_EQ(dense.share_read(), 1.0);
    EXPECT_EQ(dense.queries, count * 4);
  }
}

TEST_P(EveryKernel, NeighboursAndThreadsDoNotChangeWhatARowReads) {
  Marked world(2);
  for (const int64_t length : {70, 2000, 3}) world.add(length);
  const SelectionOptions options = ratio(0.2f);
  for (const int64_t count : {1, 50}) {
    const auto q = world.draw((count + 3) * 2 * kDim, 1.0f);
    const PagedAttentionOptions how{2, 0.2f, 0.0f, 0, {&options, 1}};
    const auto alone = run(GetParam(), world, {{count}, how, 1}, {q.begin(), q.begin() + count * 2 * kDim});
    const auto among = run(GetParam(), world, {{count, 1, 1, 1}, how, 1}, q);
    for (size_t i = 0; i < alone.size(); ++i) ASSERT_EQ(alone[i], among[i]);
    const auto threads = run(GetParam(), world, {{count}, how, 8}, {q.begin(), q.begin() + count * 2 * kDim});
    for (int64_t row = 0; row < count * 2; ++row) {
      EXPECT_EQ(tiles_read(&alone[static_cast<size_t>(row * kDim)]), tiles_read(&threads[static_cast<size_t>(row * kDim)]));
    }
    for (size_t i = 0; i < alone.size(); ++i) ASSERT_NEAR(alone[i], threads[i], kBound);
    const auto again = run(GetParam(), world, {{count}, how, 8}, {q.begin(), q.begin() + count * 2 * kDim});
    EXPECT_EQ(threads, again);
  }
}

TEST_P(EveryKernel, AKeyThatIsNotANumberIsReadAndShows) {
  for (const int64_t count : {1, 30}) {
    World world(1, 1, 16);
    world.add(1000);
    const SelectionOptions options = ratio(0.2f);
    std::vector<float> key(16, std::numeric_limits<float>::quiet_NaN()), value(16, 1.0f);
    world.pool.store(1, 0, world.sequences[0].pages[5], 7, key.data(), value.data());
    std::vector<uint16_t> scratch(static_cast<size_t>(2 * kPageTokens * world.pool.width()));
    world.pool.summarise(1, 0, world.sequences[0].pages[5], scratch.data());
    for (const float out : run(GetParam(), world, {{count}, {1, 1.0f, 0.0f, 0, {&options, 1}}, 1}, world.draw(count * 16, 1.0f))) EXPECT_TRUE(std::isnan(out));
  }
}

TEST_P(EveryKernel, HugeScoresAndShortSequencesStayFinite) {
  World world(1, 1, 16);
  for (const int64_t length : {1, 100, 129, 200, 1000}) world.add(length);
  for (const auto& options : {ratio(0.01f), SelectionOptions{.mode = Mode::kTopK, .top_k = 1, .dense_below = 0}, SelectionOptions{.mode = Mode::kTopP, .top_p = 1, .dense_below = 0}}) {
    for (const float size : {0.0f, 1e6f, 1e18f}) {
      const auto q = world.draw(5 * 16, size);
      for (const float value : run(GetParam(), world, {{1, 1, 1, 1, 1}, {1, 1.0f, 0.0f, 0, {&options, 1}}, 1}, q)) EXPECT_TRUE(std::isfinite(value)) << size;
    }
  }
}

}  // namespace
}  // namespace deepseek::kernels
