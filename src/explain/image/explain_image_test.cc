#include "explain/image/explain_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <torch/script.h>

#include "base/random.h"
#include "explain/image/image_file.h"
#include "explain/report/document.h"
#include "explain/report/text_report.h"

#ifdef DEEPSEEK_HAVE_OPENCV
#include <opencv2/imgcodecs.hpp>
#endif

namespace deepseek::explain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = base::fs;

constexpr int64_t kSide = 96;

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("deepseek-image-" + std::to_string(::getpid()))) { fs::create_directories(path_); }
  ~Folder() { fs::remove_all(path_); }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// Four quadrants of unlike colours.
RgbImage quadrants() {
  RgbImage image{.width = kSide, .height = kSide};
  constexpr std::array<std::array<uint8_t, 3>, 4> kColours{{{230, 230, 220}, {20, 90, 30}, {200, 40, 40}, {30, 30, 120}}};
  for (int64_t y = 0; y < kSide; ++y) {
    for (int64_t x = 0; x < kSide; ++x) {
      const auto& colour = kColours[static_cast<size_t>(2 * (2 * y / kSide) + 2 * x / kSide)];
      image.pixels.insert(image.pixels.end(), colour.begin(), colour.end());
    }
  }
  return image;
}

// Two scores: the brightness of the top left quadrant, and -1.
ImageClassifier sees_top_left() {
  return [](const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) -> base::Result<std::vector<double>> {
    std::vector<double> scores;
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t y = 0; y < h / 2; ++y) {
        for (int64_t x = 0; x < w / 2; ++x) sum += batch[static_cast<size_t>((i * c * h + y) * w + x)];
      }
      scores.push_back(10 * sum / static_cast<double>(h * w / 4));
      scores.push_back(-1);
    }
    return scores;
  };
}

ImageOptions options_of(const fs::path& image) {
  return {.image = image, .model = {.name = "quadrant", .kind = "test", .classify = sees_top_left()}, .width = kSide, .height = kSide, .classes = {"bright", "dark"}, .regions = 9};
}

TEST(ImageGame, ScalesAsTorchvisionDoes) {
  const RgbImage image{.width = 2, .height = 1, .pixels = {255, 0, 51, 0, 102, 204}};
  const auto three = scaled(image, {.mean = {0.5, 0.4, 0.2}, .std = {0.5, 0.2, 0.1}});
  const std::vector<double> expected{1, -1, -2, 0, 0, 6};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(three[i], expected[i], 1e-6) << i;
  EXPECT_NEAR(scaled(image, {.channels = 1})[0], (0.299 * 255 + 0.114 * 51) / 255, 1e-6);
  EXPECT_THAT(check(PixelScale{.channels = 2}).error().message, HasSubstr("1 or 3 channels"));
  EXPECT_THAT(check(PixelScale{.std = {0}}).error().message, HasSubstr("above 0"));
  EXPECT_THAT(check(PixelScale{.mean = {1, 2}}).error().message, HasSubstr("for 3 channels"));
}

TEST(ImageGame, WhatIsHiddenKeepsNoEdges) {
  const RgbImage soft = blurred(quadrants(), 30);
  const auto red = [&](int64_t x) { return static_cast<int>(soft.pixels[static_cast<size_t>(3 * x)]); };
  for (int64_t x = 1; x < kSide; ++x) EXPECT_LE(std::abs(red(x) - red(x - 1)), 5) << x;
  EXPECT_GT(red(0), red(kSide - 1));
  const RgbImage mean = mean_coloured(quadrants());
  EXPECT_EQ(mean.pixels[0], (230 + 20 + 200 + 30) / 4);
  EXPECT_EQ(blurred({.width = 1, .height = 1, .pixels = {1, 2, 3}}, 5).pixels, (std::vector<uint8_t>{1, 2, 3}));
}

TEST(ImageGame, ErrorsAndInterruptionsEndIt) {
  const RgbImage image = quadrants();
  const Superpixels regions = *slic(image, {.regions = 4});
  std::vector<double> worth(2);
  const std::vector<uint8_t> coalitions(2 * static_cast<size_t>(regions.count), 1);
  const auto failure = [&](ImageClassifier classify, ImageGameOptions options) {
    return ImageGame(std::move(classify), image, image, regions, {}, std::move(options)).worth(coalitions, worth).error().message;
  };
  const auto gives = [](std::vector<double> scores) { return [scores](const std::vector<float>&, int64_t, int64_t, int64_t, int64_t) -> base::Result<std::vector<double>> { return scores; }; };
  EXPECT_THAT(failure(gives({1, 2, 3}), {}), HasSubstr("3 scores for 2 images"));
  EXPECT_THAT(failure(gives({1, std::nan("")}), {}), HasSubstr("no number"));
  EXPECT_THAT(failure(gives({1, 2}), {.output = 1}), HasSubstr("output 2 is wanted"));
  EXPECT_THAT(failure(gives({1, 2}), {.stop_requested = [] { return true; }}), HasSubstr("interrupted"));
}

TEST(ImageModel, OneThatTakesSingleImagesOnlyIsAskedSo) {
  int calls = 0;
  const ImageClassifier checked = checked_for_batches([&](const std::vector<float>& batch, int64_t, int64_t, int64_t, int64_t) -> base::Result<std::vector<double>> {
    ++calls;
    return std::vector<double>{batch[0]};  // of a batch the first alone
  });
  for (int i = 0; i < 2; ++i) EXPECT_EQ(*checked({1, 2, 3}, 3, 1, 1, 1), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(calls, 7);
  const ImageClassifier sound = checked_for_batches([&](const std::vector<float>& batch, int64_t, int64_t, int64_t, int64_t) -> base::Result<std::vector<double>> {
    ++calls;
    return std::vector<double>(batch.begin(), batch.end());
  });
  calls = 0;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(*sound({1, 2, 3}, 3, 1, 1, 1), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(calls, 5);
}

TEST(ImageModel, TorchScript) {
  const Folder folder;
  torch::jit::Module module("means");
  module.define("def forward(self, x):\n  assert x.size(2) == 4, '4 rows'\n  return x.mean(dim=[2, 3])\n");
  module.save((folder / "model.pt").string());
  auto model = open_image_model(folder / "model.pt");
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->kind, "TorchScript");
  std::vector<float> batch(2 * 3 * 4 * 4, 1);
  std::fill(batch.begin(), batch.begin() + 16, 5.0f);
  EXPECT_EQ(*model->classify(batch, 2, 3, 4, 4), (std::vector<double>{5, 1, 1, 1, 1, 1}));
  const auto refused = model->classify(batch, 1, 3, 8, 4);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("4 rows"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("\n")));
}

TEST(ImageModel, WhatIsNoModelIsRefused) {
  const Folder folder;
  write(folder / "text.pt", "no model");
  write(folder / "text.onnx", "no model");
  EXPECT_THAT(open_image_model(folder / "text.pt").error().message, HasSubstr("is no TorchScript model"));
  EXPECT_THAT(open_image_model(folder / "text.onnx").error().message, Not(HasSubstr("\n")));
  EXPECT_THAT(open_image_model(folder / "absent.onnx").error().message, HasSubstr("there is no file"));
  EXPECT_THAT(open_image_model("model.txt").error().message, HasSubstr(".onnx, .pt and .pth are known"));
}

TEST(HeatOver, RedRaisesBlueLowers) {
  const RgbImage image = quadrants();
  const Superpixels half{.width = 2, .height = 1, .count = 2, .labels = {0, 1}};
  const RgbImage heat = heat_over(image, half, {2, -1});
  EXPECT_GT(heat.pixels[0], heat.pixels[2] + 50);
  const uint8_t* right = heat.pixels.data() + 3 * (kSide - 1);
  EXPECT_GT(right[2], right[0] + 50);
  const RgbImage none = heat_over(image, half, {0, 0});
  EXPECT_EQ(none.pixels[0], none.pixels[2]);
}

#ifdef DEEPSEEK_HAVE_OPENCV

Document explained(const ImageOptions& options) {
  auto json = explain_image(options);
  EXPECT_TRUE(json) << json.error().message;
  auto document = read_document(*json);
  EXPECT_TRUE(document);
  return *document;
}

TEST(ExplainImage, TheQuadrantThatTheModelSeesHasTheValue) {
  const Folder folder;
  ASSERT_TRUE(write_png(folder / "image.png", quadrants()));
  for (const HiddenAs hidden : {HiddenAs::kBlurred, HiddenAs::kMeanColour}) {
    ImageOptions options = options_of(folder / "image.png");
    options.hidden_as = hidden;
    options.budget = 4096;
    options.overlay = folder / "heat.png";
    const Document document = explained(options);
    EXPECT_EQ(document.output, "bright");
    EXPECT_TRUE(document.exact);
    EXPECT_EQ(document.units, "score");
    const Superpixels regions = *slic(quadrants(), {.regions = 9});
    double within = 0;
    std::vector<double> sums(document.nodes.size());
    for (size_t i = 1; i < document.nodes.size(); ++i) {
      const auto& node = document.nodes[i];
      sums[static_cast<size_t>(node.parent)] += document.local->values[i];
      if (node.feature < 0) continue;
      const int32_t region = std::stoi(node.name.substr(7)) - 1;
      bool seen = false;
      for (size_t p = 0; p < regions.labels.size(); ++p) seen = seen || (regions.labels[p] == region && p % kSide < kSide / 2 && p / kSide < kSide / 2);
      if (seen) {
        within += document.local->values[i];
      } else {
        EXPECT_NEAR(document.local->values[i], 0, 1e-9) << node.name;
      }
    }
    EXPECT_NEAR(within, document.local->score - document.base, 1e-9);
    EXPECT_GT(within, 0.5);
    for (size_t i = 0; i < sums.size(); ++i) {
      if (!document.nodes[i].children.empty()) { EXPECT_NEAR(sums[i], document.local->values[i], 1e-9); }
    }
    auto heat = read_image(folder / "heat.png");
    ASSERT_TRUE(heat);
    ASSERT_EQ(heat->width, kSide);
    const auto rgb = [&](int64_t x, int64_t y) { return heat->pixels.data() + 3 * (y * kSide + x); };
    EXPECT_GT(rgb(20, 20)[0], rgb(20, 20)[2] + 20);
    EXPECT_EQ(rgb(80, 80)[0], rgb(80, 80)[2]);
    EXPECT_THAT(text_report(*explain_image(options), "en"), HasSubstr("bright"));
  }
}

TEST(ExplainImage, ManyRegionsAreEstimatedAndSeedsRepeat) {
  const Folder folder;
  ASSERT_TRUE(write_png(folder / "image.png", quadrants()));
  ImageOptions options = options_of(folder / "image.png");
  options.regions = 50;
  options.output = 0;
  auto one = explain_image(options), other = explain_image(options);
  ASSERT_TRUE(one && other);
  EXPECT_EQ(one->dump(), other->dump());
  const Document document = *read_document(*one);
  EXPECT_FALSE(document.exact);
  EXPECT_NEAR(document.base + document.local->values[0], document.local->score, 1e-9);
}

TEST(ExplainImage, WhatCannotBeIsRefused) {
  const Folder folder;
  ASSERT_TRUE(write_png(folder / "image.png", quadrants()));
  const auto refusal = [&](auto change) {
    ImageOptions options = options_of(folder / "image.png");
    change(options);
    auto json = explain_image(options);
    return json ? "" : json.error().message;
  };
  EXPECT_THAT(refusal([](ImageOptions& o) { o.classes = {"one"}; }), HasSubstr("1 names of classes for the 2 outputs"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.output = 2; }), HasSubstr("no output 2; the model has 2"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.width = 0; }), HasSubstr("1 to 8192"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.regions = 1; }), HasSubstr("too few"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.image = "/nonexistent.png"; }), HasSubstr("/nonexistent.png"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.stop_requested = [] { return true; }; }), HasSubstr("interrupted"));
  EXPECT_THAT(refusal([](ImageOptions& o) { o.overlay = "/nonexistent/heat.png"; }), HasSubstr("heat.png"));
  EXPECT_FALSE(hidden_as_named("black"));
}

TEST(ImageFile, HostileFilesAreOneSentence) {
  const Folder folder;
  std::vector<uint8_t> png, jpeg, webp;
  const RgbImage image = quadrants();
  const cv::Mat mat(kSide, kSide, CV_8UC3, const_cast<uint8_t*>(image.pixels.data()));
  ASSERT_TRUE(cv::imencode(".png", mat, png) && cv::imencode(".jpg", mat, jpeg) && cv::imencode(".webp", mat, webp));
  const auto error_of = [&](const std::string& bytes) {
    write(folder / "image", bytes);
    auto read = read_image(folder / "image");
    return read ? "" : read.error().message;
  };
  for (const auto& whole : {png, jpeg, webp}) {
    const std::string bytes(whole.begin(), whole.end());
    EXPECT_EQ(error_of(bytes), "");
    for (const size_t size : {bytes.size() - 3, bytes.size() / 2, size_t{40}, size_t{20}}) {
      EXPECT_THAT(error_of(bytes.substr(0, size)), ::testing::AnyOf(HasSubstr("is cut off"), HasSubstr("no size"))) << size;
    }
  }
  std::string huge(png.begin(), png.end());
  huge[16] = huge[20] = 0x7f;
  EXPECT_THAT(error_of(huge), HasSubstr("at most 64,000,000 are read"));
  std::string broken(png.begin(), png.end());
  for (size_t i = 41; i < broken.size() - 12; ++i) broken[i] = 'x';
  EXPECT_THAT(error_of(broken), HasSubstr("is a broken image"));
  EXPECT_THAT(error_of("GIF89a"), HasSubstr("is no PNG, JPEG, WebP or BMP image"));
  EXPECT_THAT(error_of(""), HasSubstr("is no PNG"));
  EXPECT_THAT(error_of("BM" + std::string(60, '\xff')), Not(HasSubstr("\n")));
}

// The wire format of protocol buffers: what is there of ONNX without its library.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}
std::string number(int field, uint64_t value) { return varint(static_cast<uint64_t>(field) << 3) + varint(value); }
std::string bytes_of(int field, const std::string& value) { return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(value.size()) + value; }

std::string value_info(const std::string& name, const std::vector<int64_t>& shape) {
  std::string dims;
  for (const int64_t d : shape) dims += bytes_of(1, number(1, static_cast<uint64_t>(d)));
  return bytes_of(1, name) + bytes_of(2, bytes_of(1, number(1, 1) + bytes_of(2, dims)));
}

// Flatten and Gemm: outputs [weights.size() / inputs] of images [1, 3, 2, 2].
std::string linear_onnx(const std::vector<float>& weights, int64_t inputs) {
  const auto outputs = static_cast<int64_t>(weights.size()) / inputs;
  const std::string raw(reinterpret_cast<const char*>(weights.data()), 4 * weights.size());
  const std::string tensor = number(1, static_cast<uint64_t>(outputs)) + number(1, static_cast<uint64_t>(inputs)) + number(2, 1) + bytes_of(8, "w") + bytes_of(9, raw);
  const std::string flatten = bytes_of(1, "x") + bytes_of(2, "flat") + bytes_of(3, "f") + bytes_of(4, "Flatten");
  const std::string transposed = bytes_of(1, "transB") + number(3, 1) + number(20, 2);
  const std::string gemm = bytes_of(1, "flat") + bytes_of(1, "w") + bytes_of(2, "y") + bytes_of(3, "g") + bytes_of(4, "Gemm") + bytes_of(5, transposed);
  const std::string graph = bytes_of(1, flatten) + bytes_of(1, gemm) + bytes_of(2, "linear") + bytes_of(5, tensor) + bytes_of(11, value_info("x", {1, 3, 2, 2})) + bytes_of(12, value_info("y", {1, outputs}));
  return number(1, 7) + bytes_of(7, graph) + bytes_of(8, bytes_of(1, "") + number(2, 11));
}

TEST(ImageModel, Onnx) {
  const Folder folder;
  std::vector<float> weights(2 * 12);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i);
  write(folder / "model.onnx", linear_onnx(weights, 12));
  auto model = open_image_model(folder / "model.onnx", 1);
  ASSERT_TRUE(model) << model.error().message;
  std::vector<float> batch(24, 0);
  batch[3] = 1, batch[12] = 2;
  const auto scores = model->classify(batch, 2, 3, 2, 2);
  ASSERT_TRUE(scores) << scores.error().message;
  EXPECT_EQ(*scores, (std::vector<double>{3, 15, 0, 24}));
  EXPECT_THAT(model->classify(batch, 1, 3, 4, 2).error().message, HasSubstr("does not take 2 x 4 images"));
  const std::string whole = linear_onnx(weights, 12);
  for (size_t size = 0; size < whole.size(); size += 7) {
    write(folder / "cut.onnx", whole.substr(0, size));
    if (auto cut = open_image_model(folder / "cut.onnx"); !cut) { EXPECT_THAT(cut.error().message, Not(HasSubstr("\n"))); }
  }
}

// Broken shapes make OpenCV divide by 0.
TEST(ImageModel, BrokenOnnxFilesEndNothing) {
  const Folder folder;
  const std::string whole = linear_onnx(std::vector<float>(24, 1), 12);
  base::SplitMix64 draw{7};
  for (int i = 0; i < 60; ++i) {
    std::string bytes = whole;
    for (uint64_t k = 0, most = 1 + draw() % 3; k < most; ++k) bytes[draw() % bytes.size()] = static_cast<char>(draw());
    write(folder / "broken.onnx", bytes);
    auto model = open_image_model(folder / "broken.onnx", 1);
    const std::string error = model ? "" : model.error().message;
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    if (model) static_cast<void>(model->classify(std::vector<float>(24, 1), 2, 3, 2, 2).has_value());
  }
}

#else

TEST(ExplainImage, SaysWhatThisBuildLacks) { EXPECT_THAT(explain_image(options_of("image.png")).error().message, HasSubstr("DEEPSEEK_OPENCV")); }

#endif

}  // namespace
}  // namespace deepseek::explain
