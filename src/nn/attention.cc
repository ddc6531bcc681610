// Attention over packed sequences. Short ones, as in training, are a few products of matrices each, spread over the threads; long
// ones and those with capped scores go through libtorch.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "kernels/causal_softmax/causal_softmax.h"
#include "nn/functional.h"

namespace deepseek::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kShort = 1024;  // positions; its probabilities are kept for the gradient, 2 MiB a head

// One sequence under one key head.
struct Task {
  int64_t begin, positions, kv_head, probabilities;  // the last: where its probabilities begin
};

class ShortAttention {
 public:
  ShortAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef offsets, double scale, int64_t window)
      : q_(q), k_(k), v_(v), options_{q.size(1) / k.size(1), window, scale} {
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      const int64_t n = offsets[i + 1] - offsets[i];
      for (int64_t j = 0; j < k.size(1); ++j) {
        tasks_.push_back({offsets[i], n, j, size_});
        size_ += n * n * options_.group;
      }
    }
    std::stable_sort(tasks_.begin(), tasks_.end(), [](const Task& a, const Task& b) { return a.positions > b.positions; });
  }

  [[nodiscard]] int64_t probabilities() const { return size_; }

  void forward(at::Tensor& out, at::Tensor& probabilities) const {
    run([&](const Task& task) {
      at::Tensor p = probabilities_of(task, probabilities);
      causal_softmax(at::mm(rows(q_, task).to(at::kFloat), keys(k_, task).to(at::kFloat).t()), options_, p);
      store(at::mm(p, keys(v_, task)), task, out);
    });
  }

  void backward(const at::Tensor& d_out, const at::Tensor& probabilities, at::Tensor& dq, at::Tensor& dk, at::Tensor& dv) const {
    run([&](const Task& task) {
      const at::Tensor p = probabilities_of(task, probabilities), d = rows(d_out, task), q = rows(q_, task);
      keys(dv, task).copy_(at::mm(p.t(), d));
      at::Tensor d_scores = at::mm(d, keys(v_, task).t());
      causal_softmax_backward(p, options_, d_scores);
      store(at::mm(d_scores, keys(k_, task)), task, dq);
      keys(dk, task).copy_(at::mm(d_scores.t(), q));
    });
  }

 private:
  // Tasks go to the thread with the least work so far; with fewer tasks than threads the products themselves are spread.
  template <typename Body>
  void run(const Body& body) const {
    const auto threads = static_cast<size_t>(at::get_num_threads());
    if (tasks_.size() < threads) {
      for (const auto& task : tasks_) body(task);
      return;
    }
    std::vector<std::vector<const Task*>> bins(threads);
    std::vector<int64_t> work(threads);
    for (const auto& task : tasks_) {
      const auto least = static_cast<size_t>(std::min_element(work.begin(), work.end()) - work.begin());
      bins[least].push_back(&task);
      work[least] += task.positions * task.positions + 64;
    }
    at::parallel_for(0, static_cast<int64_t>(threads), 1, [&](int64_t from, int64_t to) {
      const at::AutoDispatchBelowADInplaceOrView below;
      for (int64_t bin = from; bin < to; ++bin) {
        for (const Task* task : bins[static_cast<size_t>(bin)]) body(*task);
      }
    });
  }

  // The query heads of a task as rows (position, head): [positions * group, dim].
  [[nodiscard]] at::Tensor rows(const at::Tensor& x, const Task& task) const {
    return x.narrow(0, task.begin, task.positions).narrow(1, task.kv_head * options_.group, options_.group).reshape({-1, x.size(2)});
  }
  static at::Tensor keys(const at::Tensor& x, const Task& task) { return x.narrow(0, task.begin, task.positions).select(1, task.kv_head); }
  void store(const at::Tensor& from, const Task& task, at::Tensor& into) const {
    into.narrow(0, task.begin, task.positions).narrow(1, task.kv_head * options_.group, options_.group)
        .copy_(from.view({task.positions, options_.group, into.size(2)}));
  }
  [[nodiscard]] at::Tensor probabilities_of(const Task& task, const at::Tensor& all) const {
    return all.narrow(0, task.probabilities, task.positions * task.positions * options_.group).view({-1, task.positions});
  }

  const at::Tensor &q_, &k_, &v_;
  kernels::CausalSoftmaxOptions options_;
  std::vector<Task> tasks_;
  int64_t size_ = 0;
};

struct ShortAttentionFunction : torch::autograd::Function<ShortAttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q_in, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& offsets, double scale, int64_t window) {
    const at::Tensor q = q_in.contiguous();
    const ShortAttention attention(q, k, v, offsets, scale, window);
    at::Tensor out = at::empty_like(q), probabilities = at::empty({attention.probabilities()}, q.options());
    attention.forward(out, probabilities);
    context->save_for_backward({q, k, v, probabilities});
    context->saved_data["offsets"] = offsets;
    context->saved_data["scale"] = scale;
    context->saved_data["window"] = window;
    return out.view({q.size(0), -1});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k, at::MemoryFormat::Contiguous), dv = at::empty_like(v, at::MemoryFormat::Contiguous);
    ShortAttention(q, k, v, context->saved_data["offsets"].toIntVector(), context->saved_data["scale"].toDouble(), context->saved_data["window"].toInt())
        .backward(gradients[0].reshape(q.sizes()), saved[3], dq, dk, dv);
    return {dq, dk, dv, {}, {}, {}};
  }
};

// [L, kv_heads, dim] -> [1, heads, L, dim]; a view where there is one key head or as many as queries.
at::Tensor spread_heads(const at::Tensor& x, int64_t heads) {
  const int64_t kv_heads = x.size(1);
  const at::Tensor by_head = x.transpose(0, 1).unsqueeze(0);
  if (kv_heads == heads) return by_head;
  if (kv_heads == 1) return by_head.expand({1, heads, x.size(0), x.size(2)});
  return by_head.unsqueeze(2).expand({1, kv_heads, heads / kv_heads, x.size(0), x.size(2)}).reshape({1, heads, x.size(0), x.size(2)});
}

// Which keys each of the last `queries` positions sees: [queries, keys] bool.
at::Tensor visible(int64_t queries, int64_t keys, int64_t window, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(keys - queries, keys, options).unsqueeze(1), key = at::arange(keys, options).unsqueeze(0);
  at::Tensor seen = key <= query;
  if (window > 0) seen = seen & (key > query - window);
  return seen;
}

at::Tensor softcapped(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen, const AttentionOptions& options) {
  at::Tensor scores = at::matmul(q, k.transpose(-2, -1)) * options.scale;
  scores = (scores / options.softcap).tanh() * options.softcap;
  scores = scores.masked_fill(~seen, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, -1, at::kFloat).to(q.scalar_type()), v);
}

// q: [L, heads, dim] are the last rows of a sequence whose keys are k, v: [S, kv_heads, dim]. Returns [L, heads * dim].
at::Tensor one_sequence(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const int64_t queries = q.size(0), keys = k.size(0), heads = q.size(1), window = options.sliding_window;
  if (window > 0 && queries > window && keys > window) {
    // A block of queries sees twice the window at most.
    std::vector<at::Tensor> blocks;
    for (int64_t first = 0; first < queries; first += window) {
      const int64_t count = std::min(window, queries - first), end = keys - queries + first + count, from = std::max<int64_t>(0, end - count - window + 1);
      blocks.push_back(one_sequence(q.narrow(0, first, count), k.narrow(0, from, end - from), v.narrow(0, from, end - from), options));
    }
    return at::cat(blocks, 0);
  }
  const at::Tensor qh = q.transpose(0, 1).unsqueeze(0), kh = spread_heads(k, heads), vh = spread_heads(v, heads);
  const bool slides = options.sliding_window > 0 && keys > options.sliding_window;
  at::Tensor out;
  if (options.softcap > 0) {
    out = softcapped(qh, kh, vh, visible(queries, keys, options.sliding_window, q.device()), options);
  } else if (!slides && (queries == keys || queries == 1)) {
    out = at::scaled_dot_product_attention(qh, kh, vh, {}, 0.0, queries > 1, options.scale);
  } else {
    const at::Tensor seen = visible(queries, keys, options.sliding_window, q.device());
    const at::Tensor bias = at::where(seen, 0.0, -std::numeric_limits<float>::infinity()).to(q.scalar_type());
    out = at::scaled_dot_product_attention(qh, kh, vh, bias.unsqueeze(0).unsqueeze(0), 0.0, false, options.scale);
  }
  return out.squeeze(0).transpose(0, 1).reshape({queries, -1});
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<int64_t>& offsets,
                            const AttentionOptions& options) {
  int64_t longest = 0;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) longest = std::max(longest, offsets[i + 1] - offsets[i]);
  if (longest <= kShort && options.softcap == 0 && options.scale > 0 && q.is_cpu()) {
    return ShortAttentionFunction::apply(q, k, v, offsets, options.scale, options.sliding_window);
  }
  std::vector<at::Tensor> parts;
  parts.reserve(offsets.size());
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t at = offsets[i], n = offsets[i + 1] - offsets[i];
    parts.push_back(one_sequence(q.narrow(0, at, n), k.narrow(0, at, n), v.narrow(0, at, n), options));
  }
  return at::cat(parts, 0);
}

std::vector<Run> runs_of_equal_length(const std::vector<int64_t>& offsets) {
  std::vector<Run> runs;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t length = offsets[i + 1] - offsets[i];
    if (runs.empty() || runs.back().length != length) runs.push_back({offsets[i], 0, length});
    ++runs.back().sequences;
  }
  return runs;
}

at::Tensor full_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<int64_t>& offsets, double scale) {
  std::vector<at::Tensor> parts;
  for (const Run& run : runs_of_equal_length(offsets)) {
    const auto by_head = [&](const at::Tensor& x) {  // [sequences, heads, length, dim]
      return x.narrow(0, run.begin, run.sequences * run.length).unflatten(0, {run.sequences, run.length}).transpose(1, 2);
    };
    const at::Tensor out = at::scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), {}, 0.0, false, scale);
    parts.push_back(out.transpose(1, 2).reshape({-1, q.size(1) * q.size(2)}));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  return one_sequence(q, k, v, options);
}

}  // namespace deepseek::nn
