// A net over the columns of a table, trained by AdamW with half a cosine of learning rate, and kept as it was in its best epoch.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>

#include "explain/training/net.h"
#include "explain/training/training_data.h"
#include "hardware/cpu.h"
#include "train/adamw.h"
#include "train/learning_rate.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr int64_t kFirstUnits = 128, kSecondUnits = 64;
constexpr int64_t kMostInBatch = 256, kLeastInBatch = 32;
constexpr int64_t kUpdates = 6000;  // that a run of the default length makes, in 40 to 400 epochs
constexpr double kLearningRate = 2e-3, kWeightDecay = 1e-2, kLongestGradient = 1.0;

// Threads of libtorch for as long as this lives.
class Threads {
 public:
  explicit Threads(int wanted) : before_(at::get_num_threads()) { at::set_num_threads(wanted > 0 ? wanted : hardware::cpu().compute_threads()); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

struct Moments {
  double mean = 0, scale = 1;
};

// Weighted, of values that are not missing; they may be as large as doubles get.
Moments moments_of(std::span<const double> values, size_t first, size_t stride, std::span<const double> weights) {
  double most = 0, sum = 0, total = 0, squares = 0;
  const auto each = [&](const auto& body) {
    for (size_t r = 0; r < weights.size(); ++r) {
      if (const double x = values[first + r * stride]; !std::isnan(x)) body(x, weights[r]);
    }
  };
  each([&](double x, double) { most = std::max(most, std::abs(x)); });
  if (most == 0) return {};
  each([&](double x, double w) {
    sum += w * (x / most);
    total += w;
  });
  const double mean = total > 0 ? sum / total : 0;
  each([&](double x, double w) { squares += w * (x / most - mean) * (x / most - mean); });
  const double deviation = total > 0 ? std::sqrt(squares / total) : 0;
  // Less than rounding is no spread.
  return {.mean = mean * most, .scale = deviation > 1e-12 ? std::clamp(deviation * most, 1e-300, 1e300) : std::max(most, 1e-300)};
}

Net fresh_net(const TrainingData& data, const at::Generator& draw) {
  Net net = Net::of(data.schema.features, static_cast<int64_t>(data.outputs()));
  const auto& part = data.training;
  for (size_t i = 0; i < net.number_features.size(); ++i) {
    const Moments m = moments_of(part.rows, static_cast<size_t>(net.number_features[i]), data.schema.features.size(), part.weights);
    net.number_mean[i] = m.mean;
    net.number_scale[i] = m.scale;
  }
  if (data.task == Task::kRegression) {
    const Moments m = moments_of(part.target, 0, 1, part.weights);
    net.target_mean = {m.mean};
    net.target_scale = {m.scale};
  }
  const auto numbers = static_cast<int64_t>(net.number_features.size());
  const auto normal = [&](int64_t to, int64_t from, int64_t fan_in) { return at::randn({to, from}, draw, at::kFloat).mul_(1 / std::sqrt(static_cast<double>(std::max<int64_t>(1, fan_in)))); };
  net.number_weight = normal(kFirstUnits, 2 * numbers, net.features);
  net.number_weight.narrow(1, numbers, numbers).zero_();  // missing means nothing before training says so
  net.category_weight = normal(net.codes(), kFirstUnits, net.features);
  for (size_t i = 0; i < net.first_code.size(); ++i) net.category_weight.select(0, (i + 1 < net.first_code.size() ? net.first_code[i + 1] : net.codes()) - 1).zero_();
  net.bias = at::zeros({kFirstUnits}, at::kFloat);
  net.second_weight = normal(kSecondUnits, kFirstUnits, kFirstUnits);
  net.second_bias = at::zeros({kSecondUnits}, at::kFloat);
  net.output_weight = normal(net.outputs, kSecondUnits, kSecondUnits);
  net.output_bias = at::zeros({net.outputs}, at::kFloat);
  return net;
}

// One part of the data as tensors.
struct Examples {
  NetInput input;
  at::Tensor target, weights;  // [count]
};

Examples examples_of(const TrainingData& data, const TrainingPart& part, const Net& net) {
  Examples examples{.input = net.input_of(part.rows)};
  std::vector<double> target = part.target;
  for (double& y : target) y = (y - net.target_mean[0]) / net.target_scale[0];
  examples.target = at::tensor(target, at::kDouble).to(data.task == Task::kClasses ? at::kLong : at::kFloat);
  examples.weights = at::tensor(part.weights, at::kDouble).to(at::kFloat);
  return examples;
}

Examples some_of(const Examples& all, const at::Tensor& rows) {
  return {.input = {.numbers = all.input.numbers.index_select(0, rows), .codes = all.input.codes.index_select(0, rows)}, .target = all.target.index_select(0, rows), .weights = all.weights.index_select(0, rows)};
}

at::Tensor loss_of(Task task, const at::Tensor& scores, const Examples& examples) {
  switch (task) {
    case Task::kBinary:
      return at::binary_cross_entropy_with_logits(scores.select(1, 0), examples.target, examples.weights, {}, at::Reduction::Mean);
    case Task::kClasses: return (at::cross_entropy_loss(scores, examples.target, {}, at::Reduction::None) * examples.weights).mean();
    case Task::kRegression: return ((scores.select(1, 0) - examples.target).square() * examples.weights).mean();
  }
  return {};
}

double loss_without_gradient(Task task, const Net& net, const Examples& examples) {
  const at::NoGradGuard no_grad;
  return loss_of(task, net.forward(examples.input), examples).item<double>();
}

struct Course {
  int64_t epochs, batch, patience;
  train::Schedule schedule;
};

Course course_of(int64_t rows, int64_t rounds) {
  Course course{};
  course.batch = std::clamp(rows / 64, kLeastInBatch, kMostInBatch);
  const int64_t updates = std::max<int64_t>(1, (rows + course.batch - 1) / course.batch);
  course.epochs = rounds > 0 ? rounds : std::clamp<int64_t>(kUpdates / updates, 40, 400);
  course.patience = std::max<int64_t>(6, course.epochs / 8);
  course.schedule = {.kind = train::ScheduleKind::kCosine, .peak = kLearningRate, .warmup = updates / 2, .total = updates * course.epochs};
  return course;
}

void run_epoch(Task task, const Net& net, const Examples& all, const Course& course, const at::Generator& draw, train::AdamW& adamw) {
  const int64_t rows = all.target.size(0);
  const at::Tensor order = at::randperm(rows, draw, at::kLong);
  for (int64_t at = 0; at < rows; at += course.batch) {
    const Examples batch = some_of(all, order.narrow(0, at, std::min(course.batch, rows - at)));
    torch::autograd::backward({loss_of(task, net.forward(batch.input), batch)}, {});
    train::clip_gradients(adamw.parameters(), kLongestGradient);
    adamw.step(course.schedule.at(adamw.updates()));
  }
}

// Trains the net in place; the number of epochs up to the best one.
Result<int64_t> run(const TrainingData& data, const TrainTableOptions& o, Net& net, const at::Generator& draw) {
  const Examples training = examples_of(data, data.training, net), stopping = examples_of(data, data.stopping, net);
  std::vector<at::Tensor> parameters, best;
  for (const auto& [name, tensor] : net.tensors()) parameters.push_back(tensor->requires_grad_(true));
  train::AdamW adamw(parameters, {.weight_decay = kWeightDecay});
  const Course course = course_of(training.target.size(0), o.rounds);
  double least = std::numeric_limits<double>::infinity();
  int64_t kept = 0;
  for (int64_t epoch = 0; epoch < course.epochs && epoch < kept + course.patience; ++epoch) {
    if (o.stop_requested && o.stop_requested()) return base::fail("training was stopped after {} of {} epochs; nothing was written", epoch, course.epochs);
    run_epoch(data.task, net, training, course, draw, adamw);
    const double loss = loss_without_gradient(data.task, net, stopping);
    if (loss < least) {
      least = loss;
      kept = epoch + 1;
      best.clear();
      for (const at::Tensor& p : parameters) best.push_back(p.detach().clone());
    }
    if (o.on_progress) o.on_progress(epoch + 1, course.epochs, loss);
  }
  if (kept == 0) return base::fail("the net's loss is no number after the first epochs; are there values of more than 1e30 in the target?");
  const auto tensors = net.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) *tensors[i].second = best[i];
  return kept;
}

}  // namespace

Result<Learned> learn_net(const TrainingData& data, const TrainTableOptions& options) {
  try {
    const Threads threads(options.threads);
    const at::AutoGradMode with_grad(true);
    const at::Generator draw = at::detail::createCPUGenerator(options.seed);
    Net net = [&] {
      const at::NoGradGuard no_grad;
      return fresh_net(data, draw);
    }();
    auto rounds = run(data, options, net, draw);
    if (!rounds) return base::pass(rounds);
    return Learned{.model = model_of_net(model_frame(data.schema, data.task), net), .rounds = *rounds, .save = [net](const base::fs::path& file) { return net.save(file); }};
  } catch (const std::exception& error) {  // libtorch's, of memory above all
    const std::string_view what = error.what();
    return base::fail("training the net failed: {}", what.substr(0, what.find('\n')));
  }
}

}  // namespace deepseek::explain
