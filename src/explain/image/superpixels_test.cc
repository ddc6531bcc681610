#include "explain/image/superpixels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/random.h"

namespace deepseek::explain {
namespace {

using ::testing::HasSubstr;

// Smooth colours with noise, the same for each seed.
RgbImage noisy(int64_t width, int64_t height, uint64_t seed = 1) {
  RgbImage image{.width = width, .height = height};
  base::SplitMix64 draw{seed};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const double wave = 100 + 60 * std::sin(static_cast<double>(x) / 17) * std::cos(static_cast<double>(y) / 23);
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(wave + 20 * c + 30 * draw.uniform()));
    }
  }
  return image;
}

void paint(RgbImage& image, int64_t left, int64_t top, int64_t right, int64_t bottom, uint8_t r, uint8_t g, uint8_t b) {
  for (int64_t y = top; y < bottom; ++y) {
    for (int64_t x = left; x < right; ++x) {
      uint8_t* rgb = image.pixels.data() + 3 * (y * image.width + x);
      rgb[0] = r, rgb[1] = g, rgb[2] = b;
    }
  }
}

// How many connected parts the labels have.
int64_t parts(const Superpixels& s) {
  std::vector<uint8_t> seen(s.labels.size());
  int64_t count = 0;
  for (size_t first = 0; first < seen.size(); ++first) {
    if (seen[first]) continue;
    ++count;
    std::vector<size_t> open{first};
    seen[first] = 1;
    while (!open.empty()) {
      const size_t i = open.back(), width = static_cast<size_t>(s.width);
      open.pop_back();
      const auto visit = [&](bool there, size_t j) {
        if (!there || seen[j] || s.labels[j] != s.labels[i]) return;
        seen[j] = 1;
        open.push_back(j);
      };
      visit(i % width > 0, i - 1);
      visit(i % width + 1 < width, i + 1);
      visit(i >= width, i - width);
      visit(i + width < seen.size(), i + width);
    }
  }
  return count;
}

TEST(Superpixels, EveryPixelHasOneConnectedRegion) {
  for (const auto& [width, height, regions] : std::vector<std::array<int64_t, 3>>{{224, 224, 64}, {200, 77, 30}, {33, 150, 20}, {64, 64, 4}, {120, 90, 150}}) {
    auto found = slic(noisy(width, height), {.regions = regions});
    ASSERT_TRUE(found);
    ASSERT_EQ(static_cast<int64_t>(found->labels.size()), width * height);
    const std::set<int32_t> labels(found->labels.begin(), found->labels.end());
    EXPECT_EQ(*labels.begin(), 0);
    EXPECT_EQ(*labels.rbegin() + 1, found->count);
    EXPECT_EQ(static_cast<int32_t>(labels.size()), found->count);
    EXPECT_EQ(parts(*found), found->count);
    EXPECT_NEAR(static_cast<double>(found->count), static_cast<double>(regions), 0.35 * static_cast<double>(regions)) << width << " x " << height;
  }
}

TEST(Superpixels, EdgesOfColourAreEdgesOfRegions) {
  RgbImage image = noisy(120, 120);
  paint(image, 0, 0, 120, 120, 30, 60, 200);
  paint(image, 37, 41, 83, 79, 220, 200, 40);
  auto found = slic(image, {.regions = 36});
  ASSERT_TRUE(found);
  std::set<int32_t> inside, outside;
  for (int64_t y = 0; y < 120; ++y) {
    for (int64_t x = 0; x < 120; ++x) (x >= 37 && x < 83 && y >= 41 && y < 79 ? inside : outside).insert(found->labels[static_cast<size_t>(y * 120 + x)]);
  }
  for (const int32_t label : inside) EXPECT_FALSE(outside.contains(label)) << label;
}

TEST(Superpixels, AreTheSameEachTime) { EXPECT_EQ(slic(noisy(150, 100))->labels, slic(noisy(150, 100))->labels); }

TEST(Superpixels, SmallAndStrangeImages) {
  for (const auto& [width, height] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 50}, {3, 2}, {50, 1}}) {
    auto found = slic(noisy(width, height));
    ASSERT_TRUE(found);
    EXPECT_EQ(parts(*found), found->count);
    EXPECT_EQ(region_tree(noisy(width, height), *found).feature_count(), found->count);
  }
  EXPECT_THAT(slic({}).error().message, HasSubstr("has no regions"));
  EXPECT_THAT(slic({.width = 2, .height = 2, .pixels = {1}}).error().message, HasSubstr("are no RGB image"));
  EXPECT_THAT(slic({.width = int64_t{1} << 40, .height = int64_t{1} << 40, .pixels = {1}}).error().message, HasSubstr("are no RGB image"));
  EXPECT_FALSE(slic(noisy(4, 4), {.regions = 0}));
}

TEST(Superpixels, ColoursAreThoseOfTheStandard) {
  const auto lab = lab_of({.width = 3, .height = 1, .pixels = {255, 255, 255, 255, 0, 0, 0, 0, 0}});
  const std::vector<double> expected{100, 0, 0, 53.24, 80.09, 67.20, 0, 0, 0};  // CIE 1976, D65
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(lab[i], expected[i], 0.05) << i;
}

TEST(RegionTree, HoldsEveryRegionOnceAndFewAtATime) {
  const RgbImage image = noisy(224, 224);
  auto found = slic(image);
  ASSERT_TRUE(found);
  const FeatureTree tree = region_tree(image, *found, 5);
  const auto below = tree.features_below();
  ASSERT_EQ(static_cast<int32_t>(below[0].size()), found->count);
  for (int32_t r = 0; r < found->count; ++r) EXPECT_EQ(below[0][static_cast<size_t>(r)], r);
  for (const FeatureNode& node : tree.nodes) {
    EXPECT_LE(node.children.size(), 5U);
    if (node.feature < 0) { EXPECT_GE(node.children.size(), 2U) << node.name; }
  }
  EXPECT_EQ(tree.nodes[static_cast<size_t>(tree.leaves()[0])].name, "region 1 (top left)");
}

TEST(RegionTree, RegionsOfOneColourComeTogether) {
  RgbImage image = noisy(120, 120);
  paint(image, 0, 0, 60, 120, 200, 30, 30);
  paint(image, 60, 0, 120, 120, 30, 30, 200);
  auto found = slic(image, {.regions = 24});
  ASSERT_TRUE(found);
  const FeatureTree tree = region_tree(image, *found, 2);
  const auto below = tree.features_below();
  ASSERT_EQ(tree.nodes[0].children.size(), 2U);
  for (const int32_t half : tree.nodes[0].children) {
    std::set<bool> sides;
    for (size_t i = 0; i < found->labels.size(); ++i) {
      const auto& features = below[static_cast<size_t>(half)];
      if (std::find(features.begin(), features.end(), found->labels[i]) != features.end()) sides.insert(i % 120 < 60);
    }
    EXPECT_EQ(sides.size(), 1U);
  }
}

}  // namespace
}  // namespace deepseek::explain
