#include "explain/image/image_model.h"

#include <algorithm>
#include <cmath>
#include <memory>

#ifdef DEEPSEEK_HAVE_OPENCV
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>
#endif

namespace deepseek::explain {
namespace {

using base::Result;

#ifdef DEEPSEEK_HAVE_OPENCV

// Of OpenCV's messages of several lines the sentence alone.
std::string short_message(const cv::Exception& error) {
  std::string text = error.err.empty() ? error.what() : error.err;
  std::replace(text.begin(), text.end(), '\n', ' ');
  constexpr size_t kMost = 200;
  return text.substr(0, kMost);
}

// OpenCV's dnn module trusts what a file says of shapes and may divide by 0 or leave an array: what a file does is tried in a child process first. False: that died.
bool survives(const std::function<void()>& attempt) {
  constexpr unsigned kLongestTrial = 120;  // seconds
  const pid_t child = ::fork();
  if (child < 0) return true;  // no process can be had to try it in
  if (child == 0) {
    const rlimit none{};
    ::setrlimit(RLIMIT_CORE, &none);
    for (const int signal : {SIGSEGV, SIGFPE, SIGABRT, SIGBUS, SIGILL, SIGALRM}) ::signal(signal, SIG_DFL);
    ::alarm(kLongestTrial);
    cv::setNumThreads(1);  // the threads of the parent are not here
    try {
      attempt();
    } catch (...) {  // the parent sees the same
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return !WIFSIGNALED(status);
}

cv::Mat scores_of(cv::dnn::Net& net, const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) {
  const int sizes[] = {static_cast<int>(n), static_cast<int>(c), static_cast<int>(h), static_cast<int>(w)};
  net.setInput(cv::Mat(4, sizes, CV_32F, const_cast<float*>(batch.data())));  // NOLINT: cv::Mat has no view of what is const
  return net.forward();
}

Result<ImageClassifier> open_onnx(const base::fs::path& path) {
  auto bytes = base::read_file(path);
  if (!bytes) return base::pass(bytes);
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);  // what fails is said by the error
  if (!survives([&] { cv::dnn::readNetFromONNX(bytes->data(), bytes->size()); })) return base::fail("{} is a broken ONNX model: OpenCV dies of it", path.string());
  try {
    auto net = std::make_shared<cv::dnn::Net>(cv::dnn::readNetFromONNX(bytes->data(), bytes->size()));
    if (net->empty()) return base::fail("{} is no ONNX model", path.string());
    net->setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
    net->setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
    return ImageClassifier([net, tried = std::make_shared<bool>(false), name = path.string()](const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) -> Result<std::vector<double>> {
      if (!*tried && !survives([&] { scores_of(*net, batch, n, c, h, w); })) return base::fail("{} is a broken ONNX model: OpenCV dies of it", name);
      *tried = true;
      try {
        cv::Mat out = scores_of(*net, batch, n, c, h, w);
        if (out.type() != CV_32F || !out.isContinuous()) return base::fail("{}: the model's first output is no tensor of f32", name);
        const auto* scores = out.ptr<float>();
        return std::vector<double>(scores, scores + out.total());
      } catch (const cv::Exception& error) {
        return base::fail("{}: the model does not take {} x {} images of {} channels: {}", name, w, h, c, short_message(error));
      }
    });
  } catch (const cv::Exception& error) {
    return base::fail("{}: OpenCV cannot read this ONNX model: {}", path.string(), short_message(error));
  } catch (const std::exception& error) {
    return base::fail("{}: OpenCV cannot read this ONNX model: {}", path.string(), error.what());
  }
}

void use_threads(int threads) {
  if (threads > 0) cv::setNumThreads(threads);
}

#else

Result<ImageClassifier> open_onnx(const base::fs::path& path) {
  return base::fail("{}: this build reads no ONNX models: it was made without OpenCV (CMake option DEEPSEEK_OPENCV)", path.string());
}
void use_threads(int /*threads*/) {}

#endif

// Whether scores of a batch and of its images alone are the same but for rounding.
bool agree(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 1e-3;
  for (const double x : b) most = std::max(most, std::abs(x));
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](double x, double y) { return std::abs(x - y) <= 1e-2 * most; });
}

Result<std::vector<double>> one_by_one(const ImageClassifier& classify, const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) {
  std::vector<double> scores;
  const auto each = static_cast<std::ptrdiff_t>(c * h * w);
  for (int64_t i = 0; i < n; ++i) {
    auto one = classify({batch.begin() + i * each, batch.begin() + (i + 1) * each}, 1, c, h, w);
    if (!one) return one;
    scores.insert(scores.end(), one->begin(), one->end());
  }
  return scores;
}

}  // namespace

ImageClassifier checked_for_batches(ImageClassifier one) {
  enum class Batches : uint8_t { kUnknown, kSound, kNone };
  return [one = std::move(one), batches = std::make_shared<Batches>(Batches::kUnknown)](const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) -> Result<std::vector<double>> {
    if (n == 1) return one(batch, n, c, h, w);
    if (*batches == Batches::kSound) return one(batch, n, c, h, w);
    auto singles = one_by_one(one, batch, n, c, h, w);
    if (*batches == Batches::kUnknown && singles) {
      auto together = one(batch, n, c, h, w);
      *batches = together && agree(*together, *singles) ? Batches::kSound : Batches::kNone;
    }
    return singles;
  };
}

Result<ImageModel> open_image_model(const base::fs::path& path, int threads) {
  const std::string extension = path.extension().string();
  const bool onnx = extension == ".onnx";
  if (!onnx && extension != ".pt" && extension != ".pth") return base::refuse("{} is no image model: .onnx, .pt and .pth are known", path.string());
  std::error_code error;
  if (!base::fs::is_regular_file(path, error)) return base::fail("there is no file {}", path.string());
  use_threads(threads);
  auto classify = onnx ? open_onnx(path) : open_script_classifier(path);
  if (!classify) return base::pass(classify);
  return ImageModel{.name = path.string(), .kind = onnx ? "ONNX" : "TorchScript", .classify = checked_for_batches(std::move(*classify))};
}

}  // namespace deepseek::explain
