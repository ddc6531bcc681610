// Image classifiers from files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::explain {

/// Scores [n, outputs] of a batch [n, c, h, w].
using ImageClassifier = std::function<base::Result<std::vector<double>>(const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w)>;

struct ImageModel {
  std::string name, kind;  ///< the file; "ONNX", "TorchScript", or as the caller says
  ImageClassifier classify;
};

/// A .onnx file by OpenCV's dnn module (where this build has it), or a .pt or .pth file that torch.jit.save() wrote. The model takes [n, c, h, w] f32 and gives [n, outputs] or
/// [n, outputs, 1, 1]; one that takes a single image at a time is asked so. threads: 0: all. Errors name the file; the model's own come with each call, as one line.
/// A .onnx file of which OpenCV dies is found out in a child process, when it is opened and at its first call.
[[nodiscard]] base::Result<ImageModel> open_image_model(const base::fs::path& path, int threads = 0);

/// The TorchScript part of it.
[[nodiscard]] base::Result<ImageClassifier> open_script_classifier(const base::fs::path& path);

/// A classifier that asks `one` for single images where it does not give the same for two at once.
[[nodiscard]] ImageClassifier checked_for_batches(ImageClassifier one);

}  // namespace deepseek::explain
