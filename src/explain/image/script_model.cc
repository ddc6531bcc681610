// Image classifiers that torch.jit.save() wrote.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <memory>
#include <string>

#include "explain/image/image_model.h"

namespace deepseek::explain {
namespace {

using base::Result;

// The last line with words of the interpreter's trace says what happened.
std::string short_message(const std::exception& error) {
  std::string text = error.what();
  text = text.substr(0, text.find("\nException raised from"));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const size_t line = text.rfind('\n');
  constexpr size_t kMost = 200;
  return (line == std::string::npos ? text : text.substr(line + 1)).substr(0, kMost);
}

}  // namespace

Result<ImageClassifier> open_script_classifier(const base::fs::path& path) {
  try {
    auto module = std::make_shared<torch::jit::Module>(torch::jit::load(path.string(), at::Device(at::kCPU)));
    module->eval();
    return ImageClassifier([module, name = path.string()](const std::vector<float>& batch, int64_t n, int64_t c, int64_t h, int64_t w) -> Result<std::vector<double>> {
      try {
        const at::NoGradGuard no_grad;
        const at::Tensor input = at::from_blob(const_cast<float*>(batch.data()), {n, c, h, w}, at::kFloat);  // NOLINT: at::Tensor has no view of what is const
        const c10::IValue out = module->forward({input});
        if (!out.isTensor()) return base::fail("{}: the model gives no tensor of scores", name);
        const at::Tensor scores = out.toTensor().to(at::kDouble).contiguous();
        return std::vector<double>(scores.const_data_ptr<double>(), scores.const_data_ptr<double>() + scores.numel());
      } catch (const std::exception& error) {
        return base::fail("{}: the model does not take {} x {} images of {} channels: {}", name, w, h, c, short_message(error));
      }
    });
  } catch (const std::exception&) {
    return base::fail("{} is no TorchScript model: torch.jit.save() writes one, torch.save() does not", path.string());
  }
}

}  // namespace deepseek::explain
