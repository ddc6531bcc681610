#include "explain/image/explain_image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "explain/image/image_file.h"
#include "explain/report/write_document.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

Status check(const ImageOptions& o) {
  if (auto sound = check(o.scale); !sound) return sound;
  if (o.width < 1 || o.height < 1 || o.width > 8192 || o.height > 8192) return base::refuse("a model reads images of 1 to 8192 pixels a side, not {} x {}", o.width, o.height);
  if (o.regions < 2) return base::refuse("{} regions are too few; 2 are the fewest", o.regions);
  if (!o.model.classify) return base::refuse("there is no model");
  return {};
}

// The scores of the whole image.
Result<std::vector<double>> scores_of(const ImageOptions& o, const RgbImage& image) {
  auto scores = o.model.classify(scaled(image, o.scale), 1, o.scale.channels, o.height, o.width);
  if (!scores) return scores;
  if (scores->empty()) return base::fail("{}: the model gives no scores", o.model.name);
  if (std::any_of(scores->begin(), scores->end(), [](double x) { return !std::isfinite(x); })) return base::fail("{}: the model gives scores that are not numbers", o.model.name);
  const auto outputs = static_cast<int64_t>(scores->size());
  if (o.output && (*o.output < 0 || *o.output >= outputs)) return base::refuse("{}: there is no output {}; the model has {}, from 0 on", o.model.name, *o.output, outputs);
  if (!o.classes.empty() && static_cast<int64_t>(o.classes.size()) != outputs) return base::refuse("{} names of classes for the {} outputs of {}", o.classes.size(), outputs, o.model.name);
  return scores;
}

bool are_probabilities(const std::vector<double>& scores) {
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
  return scores.size() > 1 && std::abs(sum - 1) < 1e-3 && std::all_of(scores.begin(), scores.end(), [](double x) { return x >= 0; });
}

Origin origin_of(const ImageOptions& o, const std::vector<double>& scores, size_t output, const Estimate& estimate) {
  const bool probabilities = are_probabilities(scores);
  const bool blurs = o.hidden_as == HiddenAs::kBlurred;
  Origin origin{.model = o.model.name, .kind = o.model.kind, .output = o.classes.empty() ? fmt::format("output {}", output) : o.classes[output], .outputs = static_cast<int64_t>(scores.size()),
                .units = probabilities ? "probability" : "score", .data = o.image.string(),
                .worth = blurs ? "blurred" : "mean colour", .values = "Winter", .confidence = o.confidence, .seed = o.seed};
  origin.notes.push_back(fmt::format("the model read the image at {} x {} pixels", o.width, o.height));
  if (!probabilities && scores.size() > 1) origin.notes.push_back(fmt::format("were the {} scores the logits of classes, this one would have a probability of {:.3g}", scores.size(), softmax_of(scores, output)));
  describe_estimate(origin, estimate, o.precision);
  return origin;
}

// [regions]: of a closed group each region has its share by area.
std::vector<double> of_regions(const FeatureTree& tree, const Superpixels& regions, const Estimate& estimate) {
  std::vector<double> pixels(static_cast<size_t>(regions.count)), values(pixels.size());
  for (const int32_t label : regions.labels) pixels[static_cast<size_t>(label)] += 1;
  const auto below = tree.features_below();
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    const FeatureNode& node = tree.nodes[n];
    const bool parent_open = node.parent < 0 || estimate.open[static_cast<size_t>(node.parent)] != 0;
    if (!parent_open || (node.feature < 0 && estimate.open[n] != 0)) continue;
    double area = 0;
    for (const int32_t f : below[n]) area += pixels[static_cast<size_t>(f)];
    for (const int32_t f : below[n]) values[static_cast<size_t>(f)] += estimate.values[n] * pixels[static_cast<size_t>(f)] / area;
  }
  return values;
}

}  // namespace

Result<HiddenAs> hidden_as_named(const std::string& name) {
  if (name == "blur") return HiddenAs::kBlurred;
  if (name == "mean") return HiddenAs::kMeanColour;
  return base::refuse("hidden regions are '{}'; use blur or mean", name);
}

RgbImage heat_over(const RgbImage& image, const Superpixels& regions, const std::vector<double>& values) {
  constexpr std::array<double, 3> kUp = {215, 25, 28}, kDown = {44, 90, 200};
  constexpr double kMostCover = 0.75;
  double most = 0;
  for (const double v : values) most = std::max(most, std::abs(v));
  RgbImage out = image;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const int64_t u = x * regions.width / image.width, v = y * regions.height / image.height;
      const double value = values[static_cast<size_t>(regions.labels[static_cast<size_t>(v * regions.width + u)])];
      const double cover = most > 0 ? kMostCover * std::abs(value) / most : 0;
      uint8_t* rgb = out.pixels.data() + 3 * (y * image.width + x);
      // Colours of the image would be taken for values: what lies below is grey.
      const double grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
      for (size_t c = 0; c < 3; ++c) rgb[c] = static_cast<uint8_t>(std::lround((1 - cover) * grey + cover * (value > 0 ? kUp : kDown)[c]));
    }
  }
  return out;
}

Result<nlohmann::ordered_json> explain_image(const ImageOptions& o) {
  if (auto sound = check(o); !sound) return base::pass(sound);
  auto whole = read_image(o.image);
  if (!whole) return base::pass(whole);
  auto image = resized(*whole, o.width, o.height);
  if (!image) return base::pass(image);
  auto scores = scores_of(o, *image);
  if (!scores) return base::pass(scores);
  const auto output = static_cast<size_t>(o.output ? *o.output : std::max_element(scores->begin(), scores->end()) - scores->begin());
  auto regions = slic(*image, {.regions = o.regions});
  if (!regions) return base::pass(regions);
  const FeatureTree tree = region_tree(*image, *regions);
  const int64_t budget = o.budget != 0 ? o.budget : std::max<int64_t>(8 * regions->count, 256);
  ImageGameOptions how{.output = static_cast<int64_t>(output), .batch = o.batch, .stop_requested = o.stop_requested};
  if (o.on_progress) how.on_progress = [&](int64_t asked) { o.on_progress(asked, std::max(asked, budget)); };
  const double side = std::sqrt(static_cast<double>(o.width * o.height) / static_cast<double>(regions->count));
  ImageGame game(o.model.classify, *image, o.hidden_as == HiddenAs::kBlurred ? blurred(*image, side) : mean_coloured(*image), *regions, o.scale, std::move(how));
  auto estimate = estimate_winter(game, tree, {.budget = budget, .precision = o.precision, .confidence = o.confidence, .pairs = o.pairs, .seed = o.seed});
  if (!estimate) return base::pass(estimate);
  if (!o.overlay.empty()) {
    if (auto written = write_png(o.overlay, heat_over(*whole, *regions, of_regions(tree, *regions, *estimate))); !written) return base::pass(written);
  }
  const Origin origin = origin_of(o, *scores, output, *estimate);
  return document_of(origin, tree, local_of(std::move(*estimate)), {});
}

}  // namespace deepseek::explain
