// Lists of kept scores against a walk over all of them, by every implementation; sums over them against sums in f64.
#include "kernels/sparse_attention/key_lists.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/sparse_attention/row_weights.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::kernels {
namespace {

// Few values, so that many are equal.
std::vector<float> row_of(int64_t n, int64_t lowest = 0) {
  std::vector<float> x;
  for (int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>((i * i + 7 * n) % 23) - 11);
  if (lowest >= 0 && lowest < n) x[static_cast<size_t>(lowest)] = -std::numeric_limits<float>::infinity();
  return x;
}

bool is_kept(const KeptScores& kept, float x, int64_t i) { return x > kept.threshold || (x == kept.threshold && i < kept.equal_before); }

TEST(KeyLists, EveryKernelPacksTheKeptInOrder) {
  for (const PackKernel& kernel : pack_kernels()) {
    if (!kernel.runs()) continue;
    for (int64_t n = 1; n <= 300; ++n) {
      for (const KeptScores kept : {KeptScores{-std::numeric_limits<float>::infinity(), n}, KeptScores{3, n}, KeptScores{3, n / 3}, KeptScores{3, 0}, KeptScores{100, n}}) {
        const std::vector<float> x = row_of(n);
        std::vector<float> packed = x;
        packed.resize(static_cast<size_t>((n + 15) / 16 * 16), 1e9f);
        std::vector<uint8_t> keys(static_cast<size_t>(n + 16));
        std::vector<int32_t> ends(static_cast<size_t>((n + kListBlock - 1) / kListBlock));
        const int64_t count = kernel.pack(packed.data(), n, kept, keys.data(), ends.data());
        int64_t at = 0;
        for (int64_t i = 0; i < n; ++i) {
          if (is_kept(kept, x[static_cast<size_t>(i)], i)) {
            ASSERT_LT(at, count) << kernel.name << ", length " << n;
            EXPECT_EQ(packed[static_cast<size_t>(at)], x[static_cast<size_t>(i)]) << kernel.name << ", length " << n;
            EXPECT_EQ(keys[static_cast<size_t>(at)], i % kListBlock) << kernel.name << ", length " << n;
            ++at;
          }
          if (i + 1 == n || (i + 1) % kListBlock == 0) {
            EXPECT_EQ(ends[static_cast<size_t>(i / kListBlock)], at) << kernel.name << ", length " << n;
          }
        }
        EXPECT_EQ(count, at) << kernel.name << ", length " << n;
      }
    }
  }
}

TEST(KeyLists, IndicesCountAndMassOfTheKept) {
  for (int64_t n = 1; n <= 2500; n = n < 300 ? n + 7 : n + 311) {
    std::vector<float> x = row_of(n), weights;
    for (int64_t i = 0; i < n; ++i) {
      weights.push_back(static_cast<float>(i % 5));
      if (x[static_cast<size_t>(i)] == 0 && i % 2 == 0) x[static_cast<size_t>(i)] = -0.0f;
    }
    for (const float threshold : {-11.0f, -0.0f, 0.0f, 11.0f}) {
      for (const int64_t equal : {int64_t{0}, n / 3, n}) {
        const KeptScores kept{threshold, equal};
        std::vector<int32_t> expected;
        double mass = 0;
        for (int64_t i = 0; i < n; ++i) {
          if (!is_kept(kept, x[static_cast<size_t>(i)], i)) continue;
          expected.push_back(static_cast<int32_t>(i));
          mass += weights[static_cast<size_t>(i)];
        }
        EXPECT_EQ(kept_count(x.data(), n, kept), static_cast<int64_t>(expected.size())) << n;
        EXPECT_EQ(kept_mass(x.data(), weights.data(), n, kept), mass) << n;  // sums of small whole numbers
        std::vector<float> room = x;
        room.resize(static_cast<size_t>((n + 15) / 16 * 16));
        std::vector<int32_t> keys(expected.size());
        EXPECT_EQ(kept_keys(room.data(), n, kept, keys.data()), static_cast<int64_t>(expected.size())) << n;
        EXPECT_EQ(keys, expected) << n;
      }
    }
  }
}

// The threshold of e^-87 lies at or near 0, where floats are dense: finding it must not walk through them (it took 3 s for each of 28 sizes of heads).
TEST(KeyLists, SmallestWeightIsFoundAtOnce) {
  for (int64_t dim = 1; dim <= 1024; ++dim) {
    const float scale = 1 / std::sqrt(static_cast<float>(dim)), shift = 87.0f / scale;
    std::vector<float> x(16, shift);
    for (int i = 0; i < 12; ++i) x[static_cast<size_t>(i)] = shift * (static_cast<float>(i) - 8) / 4;
    std::vector<uint8_t> keys(32);
    std::vector<int32_t> ends(1);
    const PackedRow row = packed_exponentials(x.data(), 16, {}, shift, scale, keys.data(), ends.data());
    EXPECT_GE(row.count, 7) << dim;  // the one at 0 may fall to either side
    EXPECT_LE(row.count, 8) << dim;
    EXPECT_EQ(keys[static_cast<size_t>(row.count - 1)], 15) << dim;
  }
}

// One large weight and many equal ones that are too small for a sum in f32 to notice.
TEST(KeyLists, ManySmallWeightsAddUp) {
  constexpr int64_t kCount = 100'000;
  std::vector<float> x(kCount, -17.0f), weights(kCount);
  x[0] = 0;
  const RowFacts facts = facts_of(x.data(), kCount);
  const double total = exponentials(x.data(), 0, 1, weights.data(), kCount), small = weights[1], mass = 1 + small * kCount / 2;
  ASSERT_LT(mass, total);
  const KeptScores kept = scores_of_mass(x.data(), weights.data(), kCount, 1, static_cast<float>(mass), facts, 1);
  EXPECT_NEAR(static_cast<double>(kept_count(x.data(), kCount, kept)), kCount / 2.0, 0x1p-24 / small + 2);  // the mass itself is rounded to f32
}

TEST(KeyLists, SumsReadTheListedRowsAlone) {
  constexpr int64_t kRows = 5;
  constexpr float kLargest = 11, kScale = 0.25;
  for (const int64_t keys : {1, 16, 127, 128, 129, 300}) {
    for (const int64_t dim : {5, 16, 32, 64, 80, 160}) {
      const int64_t width = (dim + 15) / 16 * 16, stride = (keys + 15) / 16 * 16, unlisted = keys > 3 ? keys / 2 : -1;
      const at::Tensor values = spread({2, keys, dim}, 0.4), exact = values[1].to(at::kDouble);
      if (unlisted >= 0) values.select(1, unlisted).fill_(std::numeric_limits<float>::quiet_NaN());
      KeyLists lists(kRows, keys);
      std::vector<float> weights(static_cast<size_t>(kRows * stride)), out(static_cast<size_t>(kRows * width), 1.0f);
      at::Tensor expected = at::zeros({kRows, dim}, at::kDouble);
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t n = std::max<int64_t>(1, keys - r);  // under a causal mask rows see unlike numbers of keys
        const std::vector<float> x = row_of(n, unlisted);
        const KeptScores kept{static_cast<float>(-r), n / 2};
        std::copy(x.begin(), x.end(), weights.begin() + r * stride);
        if (r == 3) {
          lists.clear(r);
          continue;
        }
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) {
          if (!is_kept(kept, x[static_cast<size_t>(i)], i)) continue;
          const double weight = std::exp((x[static_cast<size_t>(i)] - kLargest) * kScale);
          sum += weight;
          expected[r] += weight * exact[i];
        }
        // Up to 300 weights of at most 1, each with 2 eps of its own, then their sum.
        EXPECT_NEAR(lists.pack(r, weights.data() + r * stride, n, kept, kLargest, kScale), sum, 300 * 4 * 0x1p-23);
      }
      lists.multiply(weights.data(), stride, kRows, keys, ListedRows(values, width), 1, out.data());
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t d = 0; d < width; ++d) {
          EXPECT_NEAR(out[static_cast<size_t>(r * width + d)], d < dim ? expected[r][d].item<double>() : 0, 300 * 6 * 0x1p-23 * 2) << keys << " keys, row " << r << ", column " << d;
        }
      }
    }
  }
}

}  // namespace
}  // namespace deepseek::kernels
