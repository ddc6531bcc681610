// TorchScript models: libtorch runs them, its autograd differentiates them.
#include <torch/csrc/autograd/autograd.h>
#include <torch/script.h>

#include <memory>
#include <mutex>

#include "explain/scorers/kinds.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr size_t kRowsAtATime = 4096;

// The first line of one of libtorch's errors; what follows are places in its sources and in the model's code.
std::string sentence_in(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch != nullptr ? torch->what_without_backtrace() : error.what();
  const size_t kind = text.rfind("RuntimeError: ");  // of an error in the model's code, after its traceback
  if (kind != std::string::npos) text = text.substr(kind + 14);
  return text.substr(0, std::min<size_t>(text.find('\n'), 300));
}

class TorchScriptModel {
 public:
  TorchScriptModel(torch::jit::Module module, size_t width) : module_(std::move(module)), width_(width) {
    module_.eval();
    for (const at::Tensor& parameter : module_.parameters()) {
      if (parameter.is_floating_point()) type_ = parameter.scalar_type();
      break;
    }
    if (type_ != at::kFloat && type_ != at::kDouble) type_ = at::kFloat;
  }

  Result<std::vector<double>> scores(std::span<const double> rows) {
    return by_parts(rows, [&](const at::Tensor& input) {
      const c10::InferenceMode inference;
      return forward(input);
    });
  }

  Result<std::vector<double>> gradients(std::span<const double> rows, int64_t output) {
    return by_parts(rows, [&](at::Tensor input) -> Result<at::Tensor> {
      const at::AutoGradMode with_gradients(true);
      input.requires_grad_(true);
      auto scores = forward(input);
      if (!scores) return scores;
      if (!scores->requires_grad()) return base::fail("its scores do not depend on its input by way of autograd, so it has no gradient");
      const auto found = torch::autograd::grad({scores->select(1, output).sum()}, {input}, {}, std::nullopt, false, true);
      return found[0].defined() ? found[0] : at::zeros_like(input);
    });
  }

  [[nodiscard]] size_t outputs() const { return outputs_; }

 private:
  template <typename Compute>
  Result<std::vector<double>> by_parts(std::span<const double> rows, const Compute& compute) {
    const std::lock_guard lock(one_at_a_time_);
    std::vector<double> out;
    for (size_t at = 0; at < rows.size(); at += kRowsAtATime * width_) {
      const auto part = rows.subspan(at, std::min(kRowsAtATime * width_, rows.size() - at));
      try {
        const auto count = static_cast<int64_t>(part.size() / width_);
        at::Tensor input = at::empty({count, static_cast<int64_t>(width_)}, at::kDouble);
        std::copy(part.begin(), part.end(), input.data_ptr<double>());
        Result<at::Tensor> result = compute(input.to(type_));
        if (!result) return base::pass(result);
        const at::Tensor numbers = result->detach().to(at::kCPU, at::kDouble).contiguous();
        out.insert(out.end(), numbers.data_ptr<double>(), numbers.data_ptr<double>() + numbers.numel());
      } catch (const std::exception& error) {
        return base::fail("libtorch cannot compute it: {}", sentence_in(error));
      }
    }
    return out;
  }

  // [rows, outputs]
  Result<at::Tensor> forward(const at::Tensor& input) {
    const c10::IValue answer = module_.forward({input});
    if (!answer.isTensor()) return base::fail("its forward() gives a {}, not a tensor", answer.tagKind());
    at::Tensor scores = answer.toTensor();
    if (scores.dim() == 1) scores = scores.unsqueeze(1);
    if (scores.dim() != 2 || scores.size(0) != input.size(0) || scores.size(1) < 1 || scores.is_complex() || scores.is_sparse()) {
      return base::fail("its forward() gives a tensor of {} dimensions for {} rows, not [rows] or [rows, outputs]", answer.toTensor().dim(), input.size(0));
    }
    outputs_ = static_cast<size_t>(scores.size(1));
    return scores;
  }

  torch::jit::Module module_;
  size_t width_, outputs_ = 1;
  at::ScalarType type_ = at::kFloat;
  std::mutex one_at_a_time_;
};

}  // namespace

Result<TableModel> open_torchscript(const base::fs::path& path, const ScorerOptions& options, const KnownColumns& known) {
  auto features = coded_features(known, {.names = {}, .categories = {}, .unread = {}, .generic = false, .count = 0});
  if (!features) return base::pass(features);
  std::shared_ptr<TorchScriptModel> model;
  try {
    model = std::make_shared<TorchScriptModel>(torch::jit::load(path.string(), at::kCPU), features->size());
  } catch (const std::exception& error) {
    return base::fail("libtorch reads no TorchScript in it (torch.jit.save makes it, torch.save does not): {}", sentence_in(error));
  }
  // Two rows, so that a model of one row alone shows.
  std::vector<double> rows = probe_row(options, *features);
  rows.resize(2 * features->size());
  if (auto scores = model->scores(rows); !scores) return base::pass(scores);
  return TableModel{.kind = "TorchScript", .features = std::move(*features), .outputs = output_names(known.schema, model->outputs()), .target = known.schema.target,
                    .score = [model](std::span<const double> r) { return model->scores(r); },
                    .gradient = [model](std::span<const double> r, int64_t output) { return model->gradients(r, output); }};
}

}  // namespace deepseek::explain
