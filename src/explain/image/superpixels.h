// Superpixels: an image cut into regions of like colour, and a tree of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/feature_tree.h"

namespace deepseek::explain {

struct RgbImage {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> pixels;  ///< [height, width, 3], sRGB
};

struct SuperpixelOptions {
  int64_t regions = 64;     ///< about as many are found; never more than a grid of squares that comes nearest to it
  double compactness = 10;  ///< m of the paper: the higher, the rounder
  int iterations = 10;
};

struct Superpixels {
  int64_t width = 0, height = 0;
  int32_t count = 0;
  std::vector<int32_t> labels;  ///< [height, width], 0 to count - 1 in the order of the regions' first pixels; each region is connected (by sides)
};

/// SLIC (Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods") on CIELAB colours; then scraps smaller than a quarter of a region join the
/// neighbour of the nearest colour, and so do the smallest regions while there are more than were begun with. Refuses an empty image, an image whose pixels are not as many as its size says, and fewer than one region.
[[nodiscard]] base::Result<Superpixels> slic(const RgbImage& image, const SuperpixelOptions& options = {});

/// The regions as features. Neighbours are merged where that adds least to the squared distances of colours from their region's mean (Ward 1963, on the region adjacency graph);
/// each group opens into at most `most_children` of the parts that were merged last. Names say where it lies: "region 7 (top left)", "part 2 (centre)".
[[nodiscard]] FeatureTree region_tree(const RgbImage& image, const Superpixels& regions, int most_children = 6);

/// CIELAB (D65) of sRGB, [3].
[[nodiscard]] std::vector<float> lab_of(const RgbImage& image);

}  // namespace deepseek::explain
