#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elementwise/row.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kBlock = 2048;  // floats of one block: 8 KiB, stays in L1 between the passes

DEEPSEEK_VECTOR_CLONES float maximum(const float* x, int64_t n) {
  float lanes[16];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  float best = lanes[0];
  for (const float lane : lanes) best = lane > best ? lane : best;
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

DEEPSEEK_VECTOR_CLONES float sum_of_exponentials(const float* x, float shift, int64_t n) {
  float lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) lanes[j] += fast_exp(x[i + j] - shift);
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < n; ++i) sum += fast_exp(x[i] - shift);
  return sum;
}

DEEPSEEK_VECTOR_CLONES void mark_above(const float* x, float threshold, uint8_t* marks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) marks[i] |= static_cast<uint8_t>(x[i] > threshold);
}

void apply_softcap(float* x, float cap, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

// One pass of online softmax over a row of logits: log(sum(exp)).
template <typename T>
double log_sum_exp(const T* logits, int64_t vocabulary, float cap) {
  float block[kBlock];
  float shift = -std::numeric_limits<float>::infinity();
  double sum = 0;
  for (int64_t at = 0; at < vocabulary; at += kBlock) {
    const int64_t n = std::min(kBlock, vocabulary - at);
    load_row(logits + at, block, n);
    if (cap > 0) apply_softcap(block, cap, n);
    const float best = maximum(block, n);
    if (best > shift) {
      sum *= std::exp(static_cast<double>(shift) - best);
      shift = best;
    }
    sum += sum_of_exponentials(block, shift, n);
  }
  return shift + std::log(sum);
}

template <typename T>
float logit_at(const T* logits, int64_t index, float cap) {
  float value = 0;
  load_row(logits + index, &value, 1);
  return cap > 0 ? cap * std::tanh(value / cap) : value;
}

struct Chunk {
  at::Tensor logits;  // [rows, vocabulary], type of hidden
  const int64_t* targets;
  const float* weights;
  std::vector<double> lse;
  float cap;
};

// Vocabulary rows that any row of the chunk gives at least min_probability, targets included, ascending.
template <typename T>
std::vector<int64_t> significant(const Chunk& chunk, double min_probability) {
  const int64_t rows = chunk.logits.size(0), vocabulary = chunk.logits.size(1);
  std::vector<uint8_t> marks(vocabulary, min_probability <= 0 ? 1 : 0);
  if (min_probability > 0) {
    // Threads take slices of the vocabulary, so no two write the same mark.
    at::parallel_for(0, (vocabulary + kBlock - 1) / kBlock, 4, [&](int64_t begin, int64_t end) {
      float block[kBlock];
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = b * kBlock, n = std::min(kBlock, vocabulary - at);
        for (int64_t r = 0; r < rows; ++r) {
          load_row(data_of<T>(chunk.logits) + r * vocabulary + at, block, n);
          if (chunk.cap > 0) apply_softcap(block, chunk.cap, n);
          mark_above(block, static_cast<float>(chunk.lse[r] + std::log(min_probability)), marks.data() + at, n);
        }
      }
    });
    for (int64_t r = 0; r < rows; ++r) marks[chunk.targets[r]] = 1;
  }
  std::vector<int64_t> columns;
  for (int64_t v = 0; v < vocabulary; ++v) {
    if (marks[v] != 0) columns.push_back(v);
  }
  return columns;
}

// weights * (softmax - onehot) at the given columns: [rows, columns].
template <typename T>
at::Tensor logits_gradient(const Chunk& chunk, const std::vector<int64_t>& columns) {
  const int64_t rows = chunk.logits.size(0), vocabulary = chunk.logits.size(1), n = static_cast<int64_t>(columns.size());
  at::Tensor gradient = at::empty({rows, n}, chunk.logits.options());
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> row(n);
    for (int64_t r = begin; r < end; ++r) {
      const T* logits = data_of<T>(chunk.logits) + r * vocabulary;
      for (int64_t c = 0; c < n; ++c) {
        const float logit = logit_at(logits, columns[c], chunk.cap);
        float g = fast_exp(logit - static_cast<float>(chunk.lse[r])) - (columns[c] == chunk.targets[r] ? 1.0f : 0.0f);
        if (chunk.cap > 0) g *= 1.0f - (logit / chunk.cap) * (logit / chunk.cap);
        row[c] = g * chunk.weights[r];
      }
      store_row(row.data(), data_of<T>(gradient) + r * n, n);
    }
  });
  return gradient;
}

template <typename T>
void process(Chunk& chunk, float* losses) {
  const int64_t rows = chunk.logits.size(0), vocabulary = chunk.logits.size(1);
  chunk.lse.resize(rows);
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* logits = data_of<T>(chunk.logits) + r * vocabulary;
      chunk.lse[r] = log_sum_exp(logits, vocabulary, chunk.cap);
      losses[r] = static_cast<float>(chunk.lse[r] - logit_at(logits, chunk.targets[r], chunk.cap));
    }
  });
}

CrossEntropyResult on_device(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, const at::Tensor& weights,
                             bool gradient, const CrossEntropyOptions& options) {
  CrossEntropyResult result{at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat)), {}, 1.0};
  if (gradient) result.hidden_gradient = at::empty_like(hidden);
  for (int64_t at = 0; at < hidden.size(0); at += options.chunk_rows) {
    const int64_t rows = std::min(options.chunk_rows, hidden.size(0) - at);
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

CrossEntropyResult linear_cross_entropy(const at::Tensor& hidden_in, const at::Tensor& head, const at::Tensor& targets_in,
                                        const at::Tensor& weights_in, bool gradient, const CrossEntropyOptions& options) {
  TORCH_CHECK(hidden_in.dim() == 2 && head.dim() == 2 && hidden_in.size(1) == head.size(1), "cross entropy: hidden ", hidden_in.sizes(),
              " does not fit the head ", head.sizes());
  TORCH_CHECK(hidden_in.scalar_type() == head.scalar_type(), "cross entropy: hidden and head have different types");
  TORCH_CHECK(targets_in.numel() == hidden_in.size(0), "cross entropy: ", targets_in.numel(), " targets for ", hidden_in.size(0), " rows");
  const int64_t n = hidden_in.size(0), vocabulary = head.size(0);
  if (n > 0) {
    TORCH_CHECK(targets_in.min().item<int64_t>() >= 0 && targets_in.max().item<int64_t>() < vocabulary,
                "cross entropy: a target is outside the vocabulary of ", vocabulary);
  }
  if (!hidden_in.is_cpu()) return on_device(hidden_in, head, targets_in, weights_in, gradient, options);

  const at::Tensor hidden = hidden_in.contiguous(), targets = targets_in.contiguous();
  const at::Tensor weights = weights_in.defined() ? weights_in.to(at::kFloat).contiguous() : at::ones({n}, hidden.options().dtype(at::kFloat));
  double min_probability = options.min_probability;
  if (min_probability < 0) min_probability = hidden.scalar_type() == at::kBFloat16 ? 1e-5 : 1e-9;
  CrossEntropyResult result{at::empty({n}, hidden.options().dtype(at::kFloat)), {}, 0.0};
  if (gradient) result.hidden_gradient = at::empty_like(hidden);
  double columns_used = 0;
  with_element_type(hidden, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t at = 0; at < n; at += options.chunk_rows) {
      const int64_t rows = std::min(options.chunk_rows, n - at);
      Chunk chunk{at::linear(hidden.narrow(0, at, rows), head), targets.const_data_ptr<int64_t>() + at,
                  weights.const_data_ptr<float>() + at, {}, static_cast<float>(options.softcap)};
      process<T>(chunk, result.losses.mutable_data_ptr<float>() + at);
      if (!gradient) continue;
      std::vector<int64_t> columns = significant<T>(chunk, min_probability);
      columns_used += static_cast<double>(columns.size()) * static_cast<double>(rows);
      const at::Tensor g = logits_gradient<T>(chunk, columns);
      chunk.logits = at::Tensor();
      const bool all = static_cast<int64_t>(columns.size()) == vocabulary;
      at::Tensor picked = head;
      if (!all) {
        at::Tensor ids = at::empty({static_cast<int64_t>(columns.size())}, at::kLong);
        std::copy(columns.begin(), columns.end(), ids.mutable_data_ptr<int64_t>());
        picked = at::index_select(head, 0, ids);
      }
      result.hidden_gradient.narrow(0, at, rows).copy_(at::mm(g, picked));
    }
  });
  if (n > 0) result.share_of_vocabulary = columns_used / static_cast<double>(n) / static_cast<double>(vocabulary);
  return result;
}

}  // namespace deepseek::kernels
