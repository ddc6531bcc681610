#include "explain/training/net.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding_bag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>

namespace deepseek::explain {
namespace {

using base::Result;

constexpr size_t kRowsAtATime = 8192;
constexpr double kFarthest = 100;  // deviations from the mean; beyond it a number says no more

// body(rows) over pieces of rows; what libtorch throws becomes an error.
template <typename Body>
Result<std::vector<double>> in_pieces(std::span<const double> rows, int64_t features, const Body& body) {
  const auto width = static_cast<size_t>(features);
  if (rows.size() % width != 0) return base::fail("{} numbers are no rows of {} features", rows.size(), width);
  std::vector<double> all;
  try {
    for (size_t at = 0; at < rows.size(); at += kRowsAtATime * width) body(rows.subspan(at, std::min(kRowsAtATime * width, rows.size() - at)), all);
  } catch (const std::exception& error) {
    const std::string_view what = error.what();
    return base::fail("the net failed: {}", what.substr(0, what.find('\n')));
  }
  return all;
}

}  // namespace

Net Net::of(std::span<const FeatureText> features, int64_t outputs) {
  Net net;
  net.features = static_cast<int64_t>(features.size());
  net.outputs = outputs;
  for (size_t j = 0; j < features.size(); ++j) {
    if (features[j].categories.empty()) {
      net.number_features.push_back(static_cast<int64_t>(j));
      continue;
    }
    net.category_features.push_back(static_cast<int64_t>(j));
    net.first_code.push_back(net.codes_);
    net.codes_ += static_cast<int64_t>(features[j].categories.size()) + 1;
  }
  net.number_mean.assign(net.number_features.size(), 0);
  net.number_scale.assign(net.number_features.size(), 1);
  return net;
}

std::vector<std::pair<std::string, at::Tensor*>> Net::tensors() {
  std::vector<std::pair<std::string, at::Tensor*>> all;
  if (!number_features.empty()) all.emplace_back("numbers.weight", &number_weight);
  if (!category_features.empty()) all.emplace_back("categories.weight", &category_weight);
  for (const auto& [name, tensor] : {std::pair{"first.bias", &bias}, {"second.weight", &second_weight}, {"second.bias", &second_bias}, {"output.weight", &output_weight}, {"output.bias", &output_bias}}) {
    all.emplace_back(name, tensor);
  }
  return all;
}

NetInput Net::input_of(std::span<const double> rows) const {
  const auto width = static_cast<size_t>(features), numbers = number_features.size(), categories = category_features.size(), count = rows.size() / width;
  NetInput input{.numbers = at::empty({static_cast<int64_t>(count), static_cast<int64_t>(2 * numbers)}, at::kFloat), .codes = at::empty({static_cast<int64_t>(count), static_cast<int64_t>(categories)}, at::kLong)};
  auto* number = input.numbers.mutable_data_ptr<float>();
  auto* code = input.codes.mutable_data_ptr<int64_t>();
  for (size_t r = 0; r < count; ++r, number += 2 * numbers, code += categories) {
    const double* row = rows.data() + r * width;
    for (size_t i = 0; i < numbers; ++i) {
      const double x = row[number_features[i]];
      const bool missing = std::isnan(x);
      number[i] = missing ? 0 : static_cast<float>(std::clamp((x - number_mean[i]) / number_scale[i], -kFarthest, kFarthest));
      number[numbers + i] = missing ? 1 : 0;
    }
    for (size_t i = 0; i < categories; ++i) {
      const int64_t known = (i + 1 < categories ? first_code[i + 1] : codes_) - first_code[i] - 1;
      const double x = row[category_features[i]];
      code[i] = first_code[i] + (x >= 0 && x < static_cast<double>(known) ? static_cast<int64_t>(x) : known);
    }
  }
  return input;
}

at::Tensor Net::forward(const NetInput& input) const {
  at::Tensor hidden = number_features.empty() ? bias.unsqueeze(0) : at::linear(input.numbers, number_weight, bias);
  if (!category_features.empty()) {
    const int64_t count = input.codes.size(0), each = input.codes.size(1);
    const at::Tensor begins = at::empty({count}, at::kLong);
    for (int64_t r = 0; r < count; ++r) begins.mutable_data_ptr<int64_t>()[r] = r * each;
    constexpr int64_t kSum = 0;
    hidden = hidden + std::get<0>(at::embedding_bag(category_weight, input.codes.reshape({-1}), begins, false, kSum, false, {}, false));
  }
  return at::linear(at::silu(at::linear(at::silu(hidden), second_weight, second_bias)), output_weight, output_bias);
}

Result<std::vector<double>> Net::score(std::span<const double> rows) const {
  const at::NoGradGuard no_grad;
  return in_pieces(rows, features, [&](std::span<const double> piece, std::vector<double>& all) {
    const at::Tensor scores = forward(input_of(piece)).contiguous();
    const auto* from = scores.const_data_ptr<float>();
    for (int64_t i = 0; i < scores.numel(); ++i) all.push_back(target_mean[0] + target_scale[0] * static_cast<double>(from[i]));
  });
}

Result<std::vector<double>> Net::gradient(std::span<const double> rows, int64_t output) const {
  if (output < 0 || output >= outputs) return base::fail("there is no output {}; the net has {}", output, outputs);
  const at::AutoGradMode with_grad(true);
  return in_pieces(rows, features, [&](std::span<const double> piece, std::vector<double>& all) {
    const auto width = static_cast<size_t>(features), count = piece.size() / width, begin = all.size();
    all.resize(begin + piece.size());
    if (number_features.empty()) return;
    NetInput input = input_of(piece);
    input.numbers.requires_grad_(true);
    const at::Tensor slopes = torch::autograd::grad({forward(input).select(1, output).sum()}, {input.numbers})[0].contiguous();
    const auto *slope = slopes.const_data_ptr<float>(), *number = input.numbers.const_data_ptr<float>();
    const size_t numbers = number_features.size();
    for (size_t r = 0; r < count; ++r) {
      for (size_t i = 0; i < numbers; ++i) {
        const size_t at = r * 2 * numbers + i;
        const bool still = number[at + numbers] != 0 || std::abs(number[at]) >= static_cast<float>(kFarthest);
        all[begin + r * width + static_cast<size_t>(number_features[i])] = still ? 0 : target_scale[0] / number_scale[i] * static_cast<double>(slope[at]);
      }
    }
  });
}

TableModel model_of_net(TableModel frame, Net net) {
  const auto shared = std::make_shared<const Net>(std::move(net));
  frame.kind = "net";
  frame.score = [shared](std::span<const double> rows) { return shared->score(rows); };
  frame.gradient = [shared](std::span<const double> rows, int64_t output) { return shared->gradient(rows, output); };
  return frame;
}

}  // namespace deepseek::explain
