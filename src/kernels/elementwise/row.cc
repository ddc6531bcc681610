#include "kernels/elementwise/row.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/elementwise/gate.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

DEEPSEEK_VECTOR_CLONES void silu_row(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = silu_at(gate[i]).value * up[i];
}
DEEPSEEK_VECTOR_CLONES void gelu_row(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = gelu_at(gate[i]).value * up[i];
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

DEEPSEEK_VECTOR_CLONES void scale_row(const float* x, const float* weight, float factor, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor * weight[i];
}

void norm_row(const float* x, const float* weight, float eps, float* out, int64_t n) {
  scale_row(x, weight, 1.0f / std::sqrt(sum_of_products(x, x, n) / static_cast<float>(n) + eps), out, n);
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

}  // namespace deepseek::kernels
