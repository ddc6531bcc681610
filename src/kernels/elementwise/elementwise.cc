#include "kernels/elementwise/elementwise.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/elementwise/gate.h"
#include "kernels/elementwise/tensor_rows.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kGrain = 4096;  // elements per task, below which a second thread costs more than it brings

int64_t rows_per_task(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(width, 1)); }

// dx = rstd * (g - x * rstd^2 * mean(g x)), g = dy * weight
DEEPSEEK_VECTOR_CLONES void norm_gradient(const float* g, const float* x, float rstd, float along, float* dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = rstd * (g[i] - x[i] * along);
}

DEEPSEEK_VECTOR_CLONES void multiply(const float* a, const float* b, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * b[i];
}

DEEPSEEK_VECTOR_CLONES void silu_gradient_row(const float* dy, float* gate, float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const Gate at = silu_at(gate[i]);
    gate[i] = dy[i] * up[i] * at.slope;
    up[i] = dy[i] * at.value;
  }
}
DEEPSEEK_VECTOR_CLONES void gelu_gradient_row(const float* dy, float* gate, float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const Gate at = gelu_at(gate[i]);
    gate[i] = dy[i] * up[i] * at.slope;
    up[i] = dy[i] * at.value;
  }
}

// SplitMix64's output function (Steele et al. 2014): bits of a counter that pass statistical tests.
inline uint32_t hashed(uint64_t seed, uint64_t index) {
  uint64_t z = seed + index * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>(z >> 32);
}

std::vector<float> norm_weight(const at::Tensor& weight, bool plus_one) {
  const at::Tensor w = weight.to(at::kFloat).contiguous();
  std::vector<float> values(w.const_data_ptr<float>(), w.const_data_ptr<float>() + w.numel());
  if (plus_one) {
    for (float& value : values) value += 1.0f;
  }
  return values;
}

at::Tensor scaled_weight(const at::Tensor& weight, bool plus_one) {
  const at::Tensor w = weight.to(at::kFloat);
  return plus_one ? w + 1 : w;
}

std::pair<at::Tensor, at::Tensor> rms_norm_device(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor rstd = at::rsqrt(wide.pow(2).mean(-1, true) + eps);
  return {(wide * rstd * scaled_weight(weight, plus_one)).to(x.scalar_type()), rstd.flatten()};
}

at::Tensor rms_norm_backward_device(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                                    bool plus_one) {
  const at::Tensor wide = x.to(at::kFloat), g = dy.to(at::kFloat) * scaled_weight(weight, plus_one);
  auto shape = x.sizes().vec();
  shape.back() = 1;
  const at::Tensor r = rstd.view(shape);
  return (r * (g - wide * r * r * (g * wide).mean(-1, true))).to(x.scalar_type());
}

at::Tensor rope_device(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& frequencies, bool inverse) {
  const at::Tensor angle = (positions.to(at::kFloat).unsqueeze(-1) * frequencies).unsqueeze(1);
  const at::Tensor cosine = angle.cos(), sine = inverse ? -angle.sin() : angle.sin();
  const auto halves = x.to(at::kFloat).chunk(2, -1);
  return at::cat({halves[0] * cosine - halves[1] * sine, halves[1] * cosine + halves[0] * sine}, -1).to(x.scalar_type());
}

}  // namespace

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& input, const at::Tensor& weight, double eps, bool plus_one) {
  TORCH_CHECK(weight.dim() == 1 && input.size(-1) == weight.size(0), "rms_norm: weight has ", weight.numel(), " values for rows of ",
              input.size(-1));
  if (!input.is_cpu()) return rms_norm_device(input, weight, eps, plus_one);
  const at::Tensor x = input.contiguous();
  const int64_t n = x.size(-1), rows = n == 0 ? 0 : x.numel() / n;
  at::Tensor y = at::empty_like(x), rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  const std::vector<float> w = norm_weight(weight, plus_one);
  with_element_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
      std::vector<float> row(n);
      for (int64_t r = begin; r < end; ++r) {
        load_row(data_of<T>(x) + r * n, row.data(), n);
        const float scale = 1.0f / std::sqrt(sum_of_products(row.data(), row.data(), n) / static_cast<float>(n) + static_cast<float>(eps));
        rstd.mutable_data_ptr<float>()[r] = scale;
        scale_row(row.data(), w.data(), scale, row.data(), n);
        store_row(row.data(), data_of<T>(y) + r * n, n);
      }
    });
  });
  return {y, rstd};
}

at::Tensor rms_norm_backward(const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, const at::Tensor& rstd,
                             bool plus_one) {
  if (!input.is_cpu()) return rms_norm_backward_device(gradient, input, weight, rstd, plus_one);
  const at::Tensor x = input.contiguous(), dy = gradient.contiguous();
  const int64_t n = x.size(-1), rows = n == 0 ? 0 : x.numel() / n;
  at::Tensor dx = at::empty_like(x);
  const std::vector<float> w = norm_weight(weight, plus_one);
  with_element_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
      std::vector<float> row(n), g(n);
      for (int64_t r = begin; r < end; ++r) {
        load_row(data_of<T>(x) + r * n, row.data(), n);
        load_row(data_of<T>(dy) + r * n, g.data(), n);
        multiply(g.data(), w.data(), g.data(), n);
        const float scale = rstd.const_data_ptr<float>()[r];
        const float along = scale * scale * sum_of_products(g.data(), row.data(), n) / static_cast<float>(n);
        norm_gradient(g.data(), row.data(), scale, along, row.data(), n);
        store_row(row.data(), data_of<T>(dx) + r * n, n);
      }
    });
  });
  return dx;
}

at::Tensor rope(const at::Tensor& input, const at::Tensor& positions, const at::Tensor& inverse_frequencies, bool inverse) {
  TORCH_CHECK(input.dim() == 3 && input.size(0) == positions.size(0) && input.size(2) == 2 * inverse_frequencies.size(0),
              "rope: x ", input.sizes(), " does not fit ", positions.size(0), " positions and ", inverse_frequencies.size(0), " frequencies");
  if (!input.is_cpu()) return rope_device(input, positions, inverse_frequencies, inverse);
  const at::Tensor x = input.contiguous();
  const int64_t tokens = x.size(0), heads = x.size(1), dim = x.size(2), half = dim / 2;
  at::Tensor y = at::empty_like(x);
  const int64_t* position = positions.const_data_ptr<int64_t>();
  const float* frequency = inverse_frequencies.const_data_ptr<float>();
  with_element_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, tokens, rows_per_task(heads * dim), [&](int64_t begin, int64_t end) {
      std::vector<float> cosine(half), sine(half), row(dim), out(dim);
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < half; ++i) {
          const float angle = static_cast<float>(position[t]) * frequency[i];
          cosine[i] = std::cos(angle);
          sine[i] = inverse ? -std::sin(angle) : std::sin(angle);
        }
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t at = (t * heads + h) * dim;
          load_row(data_of<T>(x) + at, row.data(), dim);
          rotate_row(row.data(), cosine.data(), sine.data(), out.data(), half);
          store_row(out.data(), data_of<T>(y) + at, dim);
        }
      }
    });
  });
  return y;
}

at::Tensor glu(const at::Tensor& gate_in, const at::Tensor& up_in, bool gelu) {
  TORCH_CHECK(gate_in.sizes() == up_in.sizes(), "glu: gate ", gate_in.sizes(), " and up ", up_in.sizes(), " differ");
  if (!gate_in.is_cpu()) return (gelu ? at::gelu(gate_in, "tanh") : at::silu(gate_in)) * up_in;
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty_like(gate);
  constexpr int64_t kBlock = 1024;
  with_element_type(gate, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      float g[kBlock], u[kBlock];
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t n = std::min(kBlock, end - at);
        load_row(data_of<T>(gate) + at, g, n);
        load_row(data_of<T>(up) + at, u, n);
        glu_row(g, u, gelu, g, n);
        store_row(g, data_of<T>(y) + at, n);
      }
    });
  });
  return y;
}

std::pair<at::Tensor, at::Tensor> glu_backward(const at::Tensor& dy_in, const at::Tensor& gate_in, const at::Tensor& up_in, bool gelu) {
  if (!gate_in.is_cpu()) {
    const at::Tensor inner = dy_in * up_in;
    return {gelu ? at::gelu_backward(inner, gate_in, "tanh") : at::silu_backward(inner, gate_in),
            dy_in * (gelu ? at::gelu(gate_in, "tanh") : at::silu(gate_in))};
  }
  const at::Tensor dy = dy_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
  constexpr int64_t kBlock = 1024;
  with_element_type(gate, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      float d[kBlock], g[kBlock], u[kBlock];
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t n = std::min(kBlock, end - at);
        load_row(data_of<T>(dy) + at, d, n);
        load_row(data_of<T>(gate) + at, g, n);
        load_row(data_of<T>(up) + at, u, n);
        gelu ? gelu_gradient_row(d, g, u, n) : silu_gradient_row(d, g, u, n);
        store_row(g, data_of<T>(dgate) + at, n);
        store_row(u, data_of<T>(dup) + at, n);
      }
    });
  });
  return {dgate, dup};
}

at::Tensor dropout(const at::Tensor& input, double p, uint64_t seed) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout: probability ", p, " is outside [0, 1)");
  const at::Tensor x = input.cpu().contiguous();
  at::Tensor y = at::empty_like(x);
  const auto dropped_below = static_cast<uint32_t>(p * 4294967296.0);
  const float keep = static_cast<float>(1.0 / (1.0 - p));
  constexpr int64_t kBlock = 1024;
  with_element_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      float row[kBlock];
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t n = std::min(kBlock, end - at);
        load_row(data_of<T>(x) + at, row, n);
        for (int64_t i = 0; i < n; ++i) row[i] = hashed(seed, static_cast<uint64_t>(at + i)) < dropped_below ? 0.0f : row[i] * keep;
        store_row(row, data_of<T>(y) + at, n);
      }
    });
  });
  return y.to(input.device());
}

}  // namespace deepseek::kernels
