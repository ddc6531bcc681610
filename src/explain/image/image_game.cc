#include "explain/image/image_game.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace deepseek::explain {
namespace {

using base::Status;

double of_channel(const std::vector<double>& values, size_t channel, double otherwise) { return values.empty() ? otherwise : values[std::min(channel, values.size() - 1)]; }

// The mean of 2 * radius + 1 values around each of `length` values that lie `stride` apart.
void box(std::vector<float>& values, size_t first, size_t length, size_t stride, int64_t radius, std::vector<float>& line) {
  line.resize(length);
  for (size_t i = 0; i < length; ++i) line[i] = values[first + i * stride];
  const auto at = [&](int64_t i) { return static_cast<double>(line[static_cast<size_t>(std::clamp<int64_t>(i, 0, static_cast<int64_t>(length) - 1))]); };
  double sum = 0;
  for (int64_t i = -radius; i <= radius; ++i) sum += at(i);
  for (size_t i = 0; i < length; ++i) {
    const auto here = static_cast<int64_t>(i);
    values[first + i * stride] = static_cast<float>(sum / static_cast<double>(2 * radius + 1));
    sum += at(here + radius + 1) - at(here - radius);
  }
}

}  // namespace

Status check(const PixelScale& scale) {
  if (scale.channels != 1 && scale.channels != 3) return base::refuse("an image has 1 or 3 channels, not {}", scale.channels);
  for (const auto* values : {&scale.mean, &scale.std}) {
    if (values->size() > 1 && values->size() != static_cast<size_t>(scale.channels)) return base::refuse("{} means or deviations for {} channels", values->size(), scale.channels);
    if (std::any_of(values->begin(), values->end(), [](double x) { return !std::isfinite(x); })) return base::refuse("a mean or deviation is no number");
  }
  if (std::any_of(scale.std.begin(), scale.std.end(), [](double x) { return x <= 0; })) return base::refuse("a deviation of pixels is above 0");
  return {};
}

std::vector<float> scaled(const RgbImage& image, const PixelScale& scale) {
  const auto channels = static_cast<size_t>(scale.channels), pixels = static_cast<size_t>(image.width * image.height);
  std::vector<float> out(channels * pixels);
  for (size_t c = 0; c < channels; ++c) {
    const double mean = of_channel(scale.mean, c, 0), deviation = of_channel(scale.std, c, 1);
    for (size_t i = 0; i < pixels; ++i) {
      const uint8_t* rgb = image.pixels.data() + 3 * i;
      const double value = channels == 3 ? rgb[c] : 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];  // ITU-R BT.601
      out[c * pixels + i] = static_cast<float>((value / 255 - mean) / deviation);
    }
  }
  return out;
}

RgbImage blurred(const RgbImage& image, double sigma) {
  // Three boxes of width w have a variance of (w^2 - 1) / 4.
  const auto radius = std::max<int64_t>(1, std::llround((std::sqrt(4 * sigma * sigma + 1) - 1) / 2));
  const auto width = static_cast<size_t>(image.width), height = static_cast<size_t>(image.height);
  std::vector<float> values(image.pixels.begin(), image.pixels.end()), line;
  for (int pass = 0; pass < 3; ++pass) {
    for (size_t c = 0; c < 3; ++c) {
      for (size_t y = 0; y < height; ++y) box(values, 3 * y * width + c, width, 3, radius, line);
      for (size_t x = 0; x < width; ++x) box(values, 3 * x + c, height, 3 * width, radius, line);
    }
  }
  RgbImage out{.width = image.width, .height = image.height, .pixels = std::vector<uint8_t>(values.size())};
  for (size_t i = 0; i < values.size(); ++i) out.pixels[i] = static_cast<uint8_t>(std::clamp(std::lround(values[i]), 0L, 255L));
  return out;
}

RgbImage mean_coloured(const RgbImage& image) {
  std::array<double, 3> sum{};
  for (size_t i = 0; i < image.pixels.size(); ++i) sum[i % 3] += image.pixels[i];
  RgbImage out = image;
  const double pixels = static_cast<double>(image.width * image.height);
  for (size_t i = 0; i < out.pixels.size(); ++i) out.pixels[i] = static_cast<uint8_t>(std::lround(sum[i % 3] / pixels));
  return out;
}

ImageGame::ImageGame(ImageClassifier classify, const RgbImage& image, const RgbImage& hidden, Superpixels regions, const PixelScale& scale, ImageGameOptions options)
    : classify_(std::move(classify)), regions_(std::move(regions)), options_(std::move(options)), channels_(scale.channels), image_(scaled(image, scale)), hidden_(scaled(hidden, scale)) {}

Status ImageGame::worth(std::span<const uint8_t> coalitions, std::span<double> worth) {
  const auto players = static_cast<size_t>(regions_.count), pixels = regions_.labels.size(), batch = static_cast<size_t>(std::max<int64_t>(options_.batch, 1));
  std::vector<float> images;
  for (size_t first = 0; first < worth.size(); first += batch) {
    if (options_.stop_requested && options_.stop_requested()) return base::fail("interrupted after {} coalitions", asked_);
    const size_t count = std::min(batch, worth.size() - first);
    images.resize(count * image_.size());
    for (size_t k = 0; k < count; ++k) {
      const uint8_t* known = coalitions.data() + (first + k) * players;
      float* to = images.data() + k * image_.size();
      for (size_t i = 0; i < image_.size(); ++i) to[i] = known[regions_.labels[i % pixels]] != 0 ? image_[i] : hidden_[i];
    }
    auto scores = classify_(images, static_cast<int64_t>(count), channels_, regions_.height, regions_.width);
    if (!scores) return base::pass(scores);
    const size_t outputs = scores->size() / count, output = static_cast<size_t>(options_.output);
    if (outputs * count != scores->size() || output >= outputs) return base::fail("the model gave {} scores for {} images, where output {} is wanted", scores->size(), count, output + 1);
    for (size_t k = 0; k < count; ++k) {
      worth[first + k] = (*scores)[k * outputs + output];
      if (!std::isfinite(worth[first + k])) return base::fail("the model gave a score that is no number");
    }
    asked_ += static_cast<int64_t>(count);
    if (options_.on_progress) options_.on_progress(asked_);
  }
  return {};
}

}  // namespace deepseek::explain
