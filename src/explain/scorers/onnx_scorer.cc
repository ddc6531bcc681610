// ONNX models through OpenCV's dnn, which computes what onnx_file.cc let through.
#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>

#include "explain/scorers/kinds.h"
#include "explain/scorers/onnx_file.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr size_t kLargestFile = size_t{512} << 20;
constexpr size_t kRowsAtATime = 4096;

// The sentence in one of OpenCV's errors, which begin with its version, a file of its sources and a line.
std::string sentence_in(const cv::Exception& error) {
  std::string text = error.err.empty() ? error.what() : error.err;
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.substr(0, 300);
}

class OnnxModel {
 public:
  explicit OnnxModel(OnnxNet net) : about_(std::move(net)) {}

  Status open() {
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);  // its errors are this one's
    try {
      net_ = cv::dnn::readNetFromONNX(about_.bytes.data(), about_.bytes.size());
    } catch (const cv::Exception& error) {
      return base::fail("OpenCV cannot read it: {}", sentence_in(error));
    } catch (const std::exception& error) {
      return base::fail("OpenCV cannot read it: {}", error.what());
    }
    if (net_.empty()) return base::fail("OpenCV reads no layers in it");
    return {};
  }

  // Tries the model with the rows that the file fixes, and whether it takes any number of them: where a file fixes 1, a layer in it may have learnt that by heart.
  Status try_out(std::span<const double> row) {
    std::vector<double> rows;
    for (int i = 0; i < 3; ++i) {
      for (const double x : row) rows.push_back(i == 1 ? 0 : i == 2 ? 0.5 * x + 1 : x);
    }
    rows_at_once_ = static_cast<size_t>(about_.rows);
    auto slowly = scores(rows);
    if (!slowly) return base::pass(slowly);
    rows_at_once_ = kRowsAtATime;
    any_number_ = true;
    const auto outputs = outputs_;
    auto at_once = scores(rows);
    const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-4 * std::max(1.0, std::abs(b)) || (std::isnan(a) && std::isnan(b)); };
    if (at_once && outputs == outputs_ && std::equal(at_once->begin(), at_once->end(), slowly->begin(), slowly->end(), near)) return {};
    rows_at_once_ = static_cast<size_t>(about_.rows);
    any_number_ = false;
    outputs_ = outputs;
    return {};
  }

  Result<std::vector<double>> scores(std::span<const double> rows) {
    const std::lock_guard lock(one_at_a_time_);
    const auto width = static_cast<size_t>(about_.features);
    std::vector<double> out;
    for (size_t at = 0; at < rows.size(); at += rows_at_once_ * width) {
      const auto part = rows.subspan(at, std::min(rows_at_once_ * width, rows.size() - at));
      if (Status ok = add_scores(part, part.size() / width, any_number_ ? part.size() / width : rows_at_once_, out); !ok) return base::pass(ok);
    }
    return out;
  }

  [[nodiscard]] size_t outputs() const { return outputs_; }

 private:
  // Scores of `count` rows; the input is filled up to `height` rows.
  Status add_scores(std::span<const double> rows, size_t count, size_t height, std::vector<double>& out) {
    const auto width = static_cast<size_t>(about_.features);
    try {
      cv::Mat input(static_cast<int>(height), static_cast<int>(width), CV_32F);
      for (size_t r = 0; r < height; ++r) {
        for (size_t j = 0; j < width; ++j) input.at<float>(static_cast<int>(r), static_cast<int>(j)) = static_cast<float>(rows[std::min(r, count - 1) * width + j]);
      }
      net_.setInput(input, about_.input);
      const cv::Mat result = net_.forward(about_.output);
      if (result.depth() != CV_32F || !result.isContinuous() || result.total() == 0) return base::fail("its output is no tensor of f32");
      const bool fits = (result.dims == 2 && static_cast<size_t>(result.size[0]) == height) || result.total() == height;
      if (!fits) return base::fail("its output is no [rows, outputs]: it has {} numbers in {} dimensions for {} rows", result.total(), result.dims, height);
      outputs_ = result.total() / height;
      const float* numbers = result.ptr<float>();
      out.insert(out.end(), numbers, numbers + count * outputs_);
    } catch (const cv::Exception& error) {
      return base::fail("OpenCV cannot compute it: {}", sentence_in(error));
    } catch (const std::exception& error) {
      return base::fail("OpenCV cannot compute it: {}", error.what());
    }
    return {};
  }

  OnnxNet about_;
  std::mutex one_at_a_time_;
  cv::dnn::Net net_;
  size_t rows_at_once_ = 1, outputs_ = 1;
  bool any_number_ = false;
};

}  // namespace

Result<TableModel> open_onnx(const base::fs::path& path, const ScorerOptions& options, const KnownColumns& known) {
  auto file = base::read_file(path, kLargestFile);
  if (!file) return base::pass(file);
  auto features = coded_features(known, {.names = {}, .categories = {}, .unread = {}, .generic = false, .count = 0});
  if (!features) return base::pass(features);
  auto net = read_onnx(*file, static_cast<int64_t>(features->size()));
  if (!net) return base::pass(net);
  const auto model = std::make_shared<OnnxModel>(std::move(*net));
  if (Status ok = model->open(); !ok) return base::pass(ok);
  if (Status ok = model->try_out(probe_row(options, *features)); !ok) return base::pass(ok);
  return TableModel{.kind = "ONNX", .features = std::move(*features), .outputs = output_names(known.schema, model->outputs()), .target = known.schema.target,
                    .score = [model](std::span<const double> rows) { return model->scores(rows); }};
}

}  // namespace deepseek::explain
