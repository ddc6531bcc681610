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
#include <limits>
#include <vector>

#include "kernels/elementwise/row.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kGrain = 4096;  // elements per task, below which a second thread costs more than it brings

int64_t rows_per_task(int64_t width) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(width, 1)); }

DEEPSEEK_VECTOR_CLONES void scale_by(const float* x, const float* weight, float factor, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor * weight[i];
}

// dx = rstd * (g - x * rstd^2 * mean(g x)), g = dy * weight
DEEPSEEK_VECTOR_CLONES void norm_gradient(const float* g, const float* x, float rstd, float along, float* dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = rstd * (g[i] - x[i] * along);
}

DEEPSEEK_VECTOR_CLONES void multiply(const float* a, const float* b, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * b[i];
}

// GELU by tanh is x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): both activations are x * sigmoid(s(x)).
struct Gate {
  float value, slope;
};
inline Gate silu_at(float x) {
  const float sigmoid = 1.0f / (1.0f + fast_exp(-x));
  return {x * sigmoid, sigmoid * (1.0f + x * (1.0f - sigmoid))};
}
inline Gate gelu_at(float x) {
  const float s = 1.59576912f * (x + 0.044715f * x * x * x);
  const float sigmoid = 1.0f / (1.0f + fast_exp(-s));
  const float ds = 1.59576912f * (1.0f + 0.134145f * x * x);
  return {x * sigmoid, sigmoid + x * sigmoid * (1.0f - sigmoid) * ds};
}

DEEPSEEK_VECTOR_CLONES void silu_row(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = silu_at(gate[i]).value * up[i];
}
DEEPSEEK_VECTOR_CLONES void gelu_row(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = gelu_at(gate[i]).value * up[i];
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

DEEPSEEK_VECTOR_CLONES float sum_of_products(const float* a, const float* b, int64_t n) {
  float lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

DEEPSEEK_VECTOR_CLONES void rotate_row(const float* x, const float* cosine, const float* sine, float* y, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    y[i] = a * cosine[i] - b * sine[i];
    y[i + half] = b * cosine[i] + a * sine[i];
  }
}

void norm_row(const float* x, const float* weight, float eps, float* out, int64_t n) {
  scale_by(x, weight, 1.0f / std::sqrt(sum_of_products(x, x, n) / static_cast<float>(n) + eps), out, n);
}

void glu_row(const float* gate, const float* up, bool gelu, float* out, int64_t n) { (gelu ? gelu_row : silu_row)(gate, up, out, n); }

DEEPSEEK_VECTOR_CLONES float largest(const float* x, int64_t n) {
  float lanes[16];
  std::fill(lanes, lanes + 16, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes, lanes + 16);
}

int64_t index_of_largest(const float* x, int64_t n) {
  constexpr int64_t kPiece = 1024;
  float best = -std::numeric_limits<float>::infinity();
  int64_t piece = 0;
  for (int64_t i = 0; i < n; i += kPiece) {
    const float here = largest(x + i, std::min(kPiece, n - i));
    if (!(here > best)) continue;
    best = here;
    piece = i;
  }
  for (int64_t i = piece; i < std::min(piece + kPiece, n); ++i) {
    if (x[i] == best) return i;
  }
  return 0;
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

// Of exp(p - shift): their sum, and their sum times p - q - distance.
DEEPSEEK_VECTOR_CLONES static void weighted_distance(const float* p, const float* q, float shift, float distance, int64_t n, double& sum, double& weighted) {
  constexpr int64_t kPiece = 4096;  // f32 inside, f64 above
  sum = weighted = 0;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = begin + kPiece < n ? begin + kPiece : n;
    float sums[16] = {}, distances[16] = {};
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) {
      for (int64_t j = 0; j < 16; ++j) {
        const float e = fast_exp(p[i + j] - shift);
        sums[j] += e;
        distances[j] += e * (p[i + j] - q[i + j] - distance);
      }
    }
    for (; i < end; ++i) {
      const float e = fast_exp(p[i] - shift);
      sums[0] += e;
      distances[0] += e * (p[i] - q[i] - distance);
    }
    for (int64_t j = 0; j < 16; ++j) {
      sum += sums[j];
      weighted += distances[j];
    }
  }
}

double divergence_row(const float* p, const float* q, int64_t n) {
  const float best_p = largest(p, n), best_q = largest(q, n);
  double sum_p = 0, weighted = 0, sum_q = 0, unused = 0;
  // log(P / Q) = (p - best_p - log sum_p) - (q - best_q - log sum_q): the difference of the largest values is taken out first.
  weighted_distance(p, q, best_p, best_p - best_q, n, sum_p, weighted);
  weighted_distance(q, q, best_q, 0.0f, n, sum_q, unused);
  return weighted / sum_p - std::log(sum_p) + std::log(sum_q);
}

DEEPSEEK_VECTOR_CLONES void add_row(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

DEEPSEEK_VECTOR_CLONES void load_row(const float* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
DEEPSEEK_VECTOR_CLONES void load_row(const uint16_t* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = bf16_to_f32(from[i]);
}
DEEPSEEK_VECTOR_CLONES void store_row(const float* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
DEEPSEEK_VECTOR_CLONES void store_row(const float* from, uint16_t* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = f32_to_bf16(from[i]);
}

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
        scale_by(row.data(), w.data(), scale, row.data(), n);
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
        gelu ? gelu_row(g, u, g, n) : silu_row(g, u, g, n);
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
