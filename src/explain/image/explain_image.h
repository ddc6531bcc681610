// Which parts of an image drove a classifier's score.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "explain/image/image_game.h"
#include "explain/image/image_model.h"

namespace deepseek::explain {

/// What stands where a region is hidden.
enum class HiddenAs : uint8_t {
  kBlurred,     ///< the image, blurred as wide as a region
  kMeanColour,  ///< its mean colour
};
/// "blur", "mean". Refuses other names.
[[nodiscard]] base::Result<HiddenAs> hidden_as_named(const std::string& name);

struct ImageOptions {
  base::fs::path image;
  ImageModel model;
  int64_t width = 224, height = 224;  ///< what the model reads: each side of the image is resized to it
  PixelScale scale;
  std::vector<std::string> classes;   ///< names of the outputs; empty: their numbers
  std::optional<int64_t> output;      ///< which is explained; nothing: the one of the highest score
  HiddenAs hidden_as = HiddenAs::kBlurred;
  int64_t regions = 64;
  int64_t batch = 32;
  int64_t budget = 0;                 ///< coalitions; 0: eight for each region and 256 at least
  double precision = 0, confidence = 0.95;  ///< as EstimateOptions has them
  int64_t pairs = 10;
  uint64_t seed = 0;
  base::fs::path overlay;             ///< a PNG of the image with its values in colour; empty: none
  std::function<void(int64_t asked, int64_t budget)> on_progress;  ///< coalitions
  std::function<bool()> stop_requested;                            ///< true ends it with an error
};

/// The explanation document (report/document.h) of one image: its regions and groups of them, and what each adds to the score; the base is the score of the image with all
/// regions hidden. Scores that are probabilities (not below 0, with the sum 1) are said to be. Errors: an image or model that cannot be read, an output that there is not, names that are not as many as
/// the outputs.
[[nodiscard]] base::Result<nlohmann::ordered_json> explain_image(const ImageOptions& options);

/// The image with each region's value over it: red raises the score, blue lowers it, the stronger the more. values [regions] belong to the regions of `regions`, whose size may be another.
[[nodiscard]] RgbImage heat_over(const RgbImage& image, const Superpixels& regions, const std::vector<double>& values);

}  // namespace deepseek::explain
