// Rows of f32 or bf16 as f32, so that each operation is written once.
#pragma once

#include <ATen/Config.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "compile with OpenMP: without it at::parallel_for runs on one thread"
#endif

namespace deepseek::kernels {

/// Copies n elements to f32.
void load_row(const float* from, float* to, int64_t n);
void load_row(const uint16_t* from, float* to, int64_t n);
/// Copies n elements from f32, rounding to nearest even.
void store_row(const float* from, float* to, int64_t n);
void store_row(const float* from, uint16_t* to, int64_t n);

/// Sum of a[i] b[i] in 16 lanes, so that the vector width does not change its order.
float sum_of_products(const float* a, const float* b, int64_t n);

/// out = x / sqrt(mean(x^2) + eps) * weight; out may be x.
void norm_row(const float* x, const float* weight, float eps, float* out, int64_t n);
/// Rotates pairs (i, i + half) of x [2 * half] by angles whose cosines and sines are given; y may be x.
void rotate_row(const float* x, const float* cosine, const float* sine, float* y, int64_t half);
/// out = act(gate) * up, act = SiLU, or GELU by tanh; out may be gate.
void glu_row(const float* gate, const float* up, bool gelu, float* out, int64_t n);
/// -infinity for n = 0; NaN is passed over.
float largest(const float* x, int64_t n);
/// Index of the largest value, the first of equals; 0 where all are NaN or n = 0.
int64_t index_of_largest(const float* x, int64_t n);
/// Sum of exp(x - shift).
float sum_of_exponentials(const float* x, float shift, int64_t n);
/// Kullback-Leibler divergence of softmax(q) from softmax(p), nats: sum of P log(P / Q), in one pass each after their largest values.
double divergence_row(const float* p, const float* q, int64_t n);
/// x += y
void add_row(float* x, const float* y, int64_t n);

/// Calls body with a typed null pointer: float* for f32, uint16_t* for bf16. Throws c10::Error for other types.
template <typename Body>
void with_element_type(const at::Tensor& x, Body&& body) {
  switch (x.scalar_type()) {
    case at::kFloat: body(static_cast<float*>(nullptr)); return;
    case at::kBFloat16: body(static_cast<uint16_t*>(nullptr)); return;
    default: TORCH_CHECK(false, "expected f32 or bf16, got ", x.scalar_type());
  }
}

template <typename T>
T* data_of(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

}  // namespace deepseek::kernels
