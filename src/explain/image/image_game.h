// An image as a game: the players are regions, a coalition is worth the score of the image in which the others are hidden.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "explain/game.h"
#include "explain/image/image_model.h"
#include "explain/image/superpixels.h"

namespace deepseek::explain {

/// What a model reads of pixels: (value / 255 - mean) / std, as torchvision.transforms.Normalize has it.
struct PixelScale {
  int64_t channels = 3;           ///< or 1: the luma
  std::vector<double> mean, std;  ///< [channels]; one for all; empty: 0 and 1
};
/// Refuses another number of channels, of means and deviations, and deviations that are not above 0.
[[nodiscard]] base::Status check(const PixelScale& scale);

struct ImageGameOptions {
  int64_t output = 0;  ///< whose score is the worth
  int64_t batch = 32;  ///< images at a time
  std::function<void(int64_t asked)> on_progress;  ///< coalitions so far
  std::function<bool()> stop_requested;            ///< true ends it with an error
};

class ImageGame : public Game {
 public:
  /// image, hidden and regions are of one size; hidden: what stands where a region is hidden.
  ImageGame(ImageClassifier classify, const RgbImage& image, const RgbImage& hidden, Superpixels regions, const PixelScale& scale, ImageGameOptions options = {});

  [[nodiscard]] int64_t players() const override { return regions_.count; }
  /// Errors: the classifier's, scores that are not numbers or not as many for every image, an interruption.
  [[nodiscard]] base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) override;

 private:
  ImageClassifier classify_;
  Superpixels regions_;
  ImageGameOptions options_;
  int64_t channels_, asked_ = 0;
  std::vector<float> image_, hidden_;  // [channels, height, width], scaled
};

/// [channels, height, width], scaled.
[[nodiscard]] std::vector<float> scaled(const RgbImage& image, const PixelScale& scale);

/// Blurred by three box filters, about a Gaussian of deviation `sigma` pixels; at the edges the outermost pixels go on.
[[nodiscard]] RgbImage blurred(const RgbImage& image, double sigma);
/// Every pixel the mean colour.
[[nodiscard]] RgbImage mean_coloured(const RgbImage& image);

}  // namespace deepseek::explain
