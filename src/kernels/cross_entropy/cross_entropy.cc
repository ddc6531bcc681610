#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cross_entropy/strip.h"
#include "kernels/elementwise/tensor_rows.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kSliceWords = 2048;  // 2048 x 512 logits in bf16 are 2 MiB: they never leave the cache
constexpr float kMostDropped = 0.05f;  // share of a row's probability that the selection may leave out

template <typename T>
class Pass {
 public:
  Pass(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, const at::Tensor& weights, CrossEntropyResult& result,
       const CrossEntropyOptions& options, float min_probability)
      : hidden_(hidden), head_(head), targets_(targets), weights_(weights), result_(result), softcap_(static_cast<float>(options.softcap)),
        min_probability_(min_probability) {}

  // Rows [begin, begin + rows) of the hidden states. Returns words times rows that took part in the gradient.
  double block(int64_t begin, int64_t rows) {
    const at::Tensor x = hidden_.narrow(0, begin, rows);
    std::vector<Strip<T>> strips = make_strips(x, begin, rows);
    const at::Tensor columns = x.t().contiguous();
    for_slices(columns, [&](const at::Tensor& logits, int64_t first) {
      at::parallel_for(0, static_cast<int64_t>(strips.size()), 1, [&](int64_t from, int64_t to) {
        for (int64_t s = from; s < to; ++s) strips[s].take(data_of<T>(logits) + s * kLanes, rows, first, logits.size(0));
      });
    });
    double used = 0;
    for (size_t s = 0; s < strips.size(); ++s) used += finish(strips[s], begin + static_cast<int64_t>(s) * kLanes);
    return used;
  }

 private:
  template <typename Body>
  void for_slices(const at::Tensor& columns, Body&& body) const {
    const int64_t vocabulary = head_.size(0);
    at::Tensor buffer = at::empty({std::min(kSliceWords, vocabulary), columns.size(1)}, columns.options());
    for (int64_t first = 0; first < vocabulary; first += kSliceWords) {
      const int64_t words = std::min(kSliceWords, vocabulary - first);
      at::Tensor logits = buffer.narrow(0, 0, words);
      at::mm_out(logits, head_.narrow(0, first, words), columns);
      body(logits, first);
    }
  }

  std::vector<Strip<T>> make_strips(const at::Tensor& x, int64_t begin, int64_t rows) const {
    // A target's own logit bounds log(sum(exp)) from below; the margin covers its rounding and that of the logits.
    const at::Tensor own = at::index_select(head_, 0, targets_.narrow(0, begin, rows));
    const at::Tensor bounds = (x.to(at::kFloat) * own.to(at::kFloat)).sum(1);
    const float* bound = bounds.const_data_ptr<float>();
    std::vector<Strip<T>> strips;
    for (int64_t at = 0; at < rows; at += kLanes) {
      const int64_t lanes = std::min(kLanes, rows - at);
      std::vector<float> below(bound + at, bound + at + lanes);
      for (float& value : below) {
        if (softcap_ > 0) value = softcap_ * std::tanh(value / softcap_);
        value -= 0.1f + 0.01f * std::abs(value);
      }
      const bool selects = result_.hidden_gradient.defined();
      strips.emplace_back(targets_.const_data_ptr<int64_t>() + begin + at, std::move(below), softcap_, selects ? min_probability_ : 0.0f);
    }
    return strips;
  }

  double finish(const Strip<T>& strip, int64_t begin) {
    const int64_t lanes = strip.lanes();
    StripGradient of{std::vector<float>(lanes), std::vector<float>(lanes), std::vector<int64_t>(lanes), softcap_};
    float* loss = result_.losses.mutable_data_ptr<float>() + begin;
    for (int64_t l = 0; l < lanes; ++l) {
      of.lse[l] = static_cast<float>(strip.log_sum_exp(l));
      of.weights[l] = weights_.const_data_ptr<float>()[begin + l];
      loss[l] = static_cast<float>(strip.log_sum_exp(l) - strip.target_logit(l));
    }
    if (!result_.hidden_gradient.defined()) return 0;
    at::Tensor into = result_.hidden_gradient.narrow(0, begin, lanes);
    const auto words = static_cast<int64_t>(strip.selected().size());
    if (min_probability_ > 0 && selected_gradient(strip, begin, of, into)) return static_cast<double>(words * lanes);
    whole_gradient(begin, of, into);
    return static_cast<double>(head_.size(0) * lanes);
  }

  // False where the selection leaves out too much of a row's probability.
  bool selected_gradient(const Strip<T>& strip, int64_t begin, StripGradient& of, at::Tensor& into) const {
    const auto& words = strip.selected();
    at::Tensor ids = at::empty({static_cast<int64_t>(words.size())}, at::kLong);
    std::copy(words.begin(), words.end(), ids.mutable_data_ptr<int64_t>());
    for (int64_t l = 0; l < strip.lanes(); ++l) of.target_rows[l] = std::lower_bound(words.begin(), words.end(), target(begin + l)) - words.begin();
    at::Tensor gradient = at::empty({ids.size(0), strip.lanes()}, into.options());
    const std::vector<float> mass = fill_gradient(strip.selected_logits().data(), of, gradient);
    for (int64_t l = 0; l < strip.lanes(); ++l) {
      if (of.weights[l] != 0 && 1 - mass[l] > kMostDropped) return false;
    }
    product_with_head(gradient, ids, into);
    return true;
  }

  // into [lanes, hidden] = gradient [words, lanes] transposed times the head's rows `ids` [words].
  void product_with_head(const at::Tensor& gradient, const at::Tensor& ids, at::Tensor& into) const {
    const int64_t words = ids.size(0);
    if (words <= kLossGatherWords) {
      at::mm_out(into, gradient.t(), at::index_select(head_, 0, ids));
      return;
    }
    at::Tensor sum = at::zeros(into.sizes(), into.options().dtype(at::kFloat));
    for (int64_t at = 0; at < words; at += kLossGatherWords) {
      const int64_t count = std::min(kLossGatherWords, words - at);
      sum.add_(at::mm(gradient.narrow(0, at, count).t(), at::index_select(head_, 0, ids.narrow(0, at, count))));
    }
    into.copy_(sum);
  }

  void whole_gradient(int64_t begin, StripGradient& of, at::Tensor& into) const {
    const int64_t lanes = into.size(0);
    at::Tensor sum = at::zeros({lanes, head_.size(1)}, into.options().dtype(at::kFloat));
    for_slices(hidden_.narrow(0, begin, lanes).t().contiguous(), [&](const at::Tensor& logits, int64_t first) {
      for (int64_t l = 0; l < lanes; ++l) of.target_rows[l] = target(begin + l) - first;
      at::Tensor gradient = at::empty_like(logits);
      fill_gradient(data_of<T>(logits), of, gradient);
      sum.add_(at::mm(gradient.t(), head_.narrow(0, first, logits.size(0))));
    });
    into.copy_(sum);
  }

  // gradient: [words, lanes]. Returns the probability of these words for each lane.
  static std::vector<float> fill_gradient(const T* logits, const StripGradient& of, at::Tensor& gradient) {
    constexpr int64_t kTask = 512;  // words; the sums of tasks are added in order, so that threads do not change them
    const int64_t words = gradient.size(0), lanes = gradient.size(1), tasks = (words + kTask - 1) / kTask;
    std::vector<float> parts(tasks * lanes), mass(lanes);
    at::parallel_for(0, tasks, 1, [&](int64_t from, int64_t to) {
      for (int64_t t = from; t < to; ++t) {
        softmax_gradient(logits, t * kTask, std::min(kTask, words - t * kTask), of, data_of<T>(gradient), parts.data() + t * lanes);
      }
    });
    for (int64_t t = 0; t < tasks; ++t) {
      for (int64_t l = 0; l < lanes; ++l) mass[l] += parts[t * lanes + l];
    }
    return mass;
  }

  [[nodiscard]] int64_t target(int64_t row) const { return targets_.const_data_ptr<int64_t>()[row]; }

  const at::Tensor &hidden_, &head_, &targets_, &weights_;  // [n, hidden], [vocab, hidden], [n] i64, [n] f32; contiguous
  CrossEntropyResult& result_;
  float softcap_, min_probability_;
};

CrossEntropyResult on_device(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, const at::Tensor& weights,
                             bool gradient, const CrossEntropyOptions& options) {
  CrossEntropyResult result{at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat)), {}, 1.0};
  if (gradient) result.hidden_gradient = at::empty_like(hidden);
  for (int64_t at = 0; at < hidden.size(0); at += kLossRows) {
    const int64_t rows = std::min(kLossRows, hidden.size(0) - at);
    at::Tensor logits = at::linear(hidden.narrow(0, at, rows), head).to(at::kFloat);
    if (options.softcap > 0) logits = (logits / options.softcap).tanh() * options.softcap;
    const at::Tensor log_p = at::log_softmax(logits, -1), target = targets.narrow(0, at, rows).unsqueeze(1);
    result.losses.narrow(0, at, rows).copy_(-log_p.gather(1, target).squeeze(1));
    if (!gradient) continue;
    at::Tensor g = log_p.exp();
    g.scatter_add_(1, target, -at::ones({rows, 1}, g.options()));
    if (options.softcap > 0) g = g * (1 - (logits / options.softcap).pow(2));
    if (weights.defined()) g = g * weights.narrow(0, at, rows).unsqueeze(1);
    result.hidden_gradient.narrow(0, at, rows).copy_(at::mm(g.to(hidden.scalar_type()), head));
  }
  return result;
}

}  // namespace

CrossEntropyResult linear_cross_entropy(const at::Tensor& hidden_in, const at::Tensor& head_in, const at::Tensor& targets_in,
                                        const at::Tensor& weights_in, bool gradient, const CrossEntropyOptions& options) {
  TORCH_CHECK(hidden_in.dim() == 2 && head_in.dim() == 2 && hidden_in.size(1) == head_in.size(1), "cross entropy: hidden ", hidden_in.sizes(),
              " does not fit the head ", head_in.sizes());
  TORCH_CHECK(hidden_in.scalar_type() == head_in.scalar_type(), "cross entropy: hidden and head have different types");
  TORCH_CHECK(targets_in.numel() == hidden_in.size(0), "cross entropy: ", targets_in.numel(), " targets for ", hidden_in.size(0), " rows");
  const int64_t n = hidden_in.size(0), vocabulary = head_in.size(0);
  if (n > 0) {
    TORCH_CHECK(targets_in.min().item<int64_t>() >= 0 && targets_in.max().item<int64_t>() < vocabulary,
                "cross entropy: a target is outside the vocabulary of ", vocabulary);
  }
  if (!hidden_in.is_cpu()) return on_device(hidden_in, head_in, targets_in, weights_in, gradient, options);

  const at::Tensor hidden = hidden_in.contiguous(), head = head_in.contiguous(), targets = targets_in.contiguous();
  const at::Tensor weights = weights_in.defined() ? weights_in.to(at::kFloat).contiguous() : at::ones({n}, hidden.options().dtype(at::kFloat));
  float min_probability = options.min_probability;
  if (min_probability < 0) min_probability = hidden.scalar_type() == at::kBFloat16 ? 1e-5f : 1e-9f;
  CrossEntropyResult result{at::empty({n}, hidden.options().dtype(at::kFloat)), {}, 0.0};
  if (gradient) result.hidden_gradient = at::empty_like(hidden);
  double used = 0;
  with_element_type(hidden, [&](auto* type) {
    Pass<std::remove_pointer_t<decltype(type)>> pass(hidden, head, targets, weights, result, options, min_probability);
    for (int64_t at = 0; at < n; at += kLossRows) used += pass.block(at, std::min(kLossRows, n - at));
  });
  if (n > 0) result.share_of_vocabulary = used / static_cast<double>(n) / static_cast<double>(vocabulary);
  return result;
}

}  // namespace deepseek::kernels
