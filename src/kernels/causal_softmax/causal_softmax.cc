#include "kernels/causal_softmax/causal_softmax.h"

#include <algorithm>
#include <vector>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

// Lanes keep the order of the sum, whatever the vector width.
DEEPSEEK_VECTOR_CLONES float exponentials(const float* x, float scale, float shift, float* out, int64_t n) {
  float lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) {
      out[i + j] = fast_exp((x[i + j] - shift) * scale);
      lanes[j] += out[i + j];
    }
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < n; ++i) {
    out[i] = fast_exp((x[i] - shift) * scale);
    sum += out[i];
  }
  return sum;
}

DEEPSEEK_VECTOR_CLONES void multiply_by(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

DEEPSEEK_VECTOR_CLONES void score_gradient(const float* p, float mean, float scale, float* g, int64_t n) {
  for (int64_t i = 0; i < n; ++i) g[i] = scale * p[i] * (g[i] - mean);
}

struct Span {
  int64_t begin, end;
};

Span seen_keys(int64_t row, const CausalSoftmaxOptions& options) {
  const int64_t position = row / options.group;
  return {options.window > 0 ? std::max<int64_t>(0, position + 1 - options.window) : 0, position + 1};
}

void check(const at::Tensor& a, const at::Tensor& b, const CausalSoftmaxOptions& options) {
  TORCH_CHECK(a.dim() == 2 && a.sizes() == b.sizes() && a.is_contiguous() && b.is_contiguous(), "causal softmax: ", a.sizes(), " and ",
              b.sizes(), " must be equal and contiguous");
  TORCH_CHECK(options.group > 0 && a.size(0) == a.size(1) * options.group, "causal softmax: ", a.size(0), " rows do not fit ", a.size(1),
              " positions in groups of ", options.group);
}

}  // namespace

void causal_softmax(const at::Tensor& scores, const CausalSoftmaxOptions& options, at::Tensor& probabilities) {
  check(scores, probabilities, options);
  TORCH_CHECK(scores.scalar_type() == at::kFloat && options.scale > 0, "causal softmax: scores must be f32 and their scale above 0");
  const int64_t keys = scores.size(1);
  std::vector<float> row(static_cast<size_t>(keys));
  with_element_type(probabilities, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t r = 0; r < scores.size(0); ++r) {
      const auto [begin, end] = seen_keys(r, options);
      const float* x = scores.const_data_ptr<float>() + r * keys;
      T* out = data_of<T>(probabilities) + r * keys;
      const float sum = exponentials(x + begin, static_cast<float>(options.scale), largest(x + begin, end - begin), row.data(), end - begin);
      multiply_by(row.data(), 1.0f / sum, end - begin);
      std::fill(out, out + begin, T{0});
      store_row(row.data(), out + begin, end - begin);
      std::fill(out + end, out + keys, T{0});
    }
  });
}

void causal_softmax_backward(const at::Tensor& probabilities, const CausalSoftmaxOptions& options, at::Tensor& gradient) {
  check(probabilities, gradient, options);
  const int64_t keys = gradient.size(1);
  std::vector<float> p(static_cast<size_t>(keys)), g(static_cast<size_t>(keys));
  with_element_type(gradient, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t r = 0; r < gradient.size(0); ++r) {
      const auto [begin, end] = seen_keys(r, options);
      T* out = data_of<T>(gradient) + r * keys;
      load_row(data_of<T>(probabilities) + r * keys + begin, p.data(), end - begin);
      load_row(out + begin, g.data(), end - begin);
      score_gradient(p.data(), sum_of_products(p.data(), g.data(), end - begin), static_cast<float>(options.scale), g.data(), end - begin);
      std::fill(out, out + begin, T{0});
      store_row(g.data(), out + begin, end - begin);
      std::fill(out + end, out + keys, T{0});
    }
  });
}

}  // namespace deepseek::kernels
