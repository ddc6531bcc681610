// Operations on one row of f32, and between rows of f32 and bf16. Without libtorch, for inference.
#pragma once

#include <cstdint>

namespace deepseek::kernels {

/// Copies n elements to f32.
void load_row(const float* from, float* to, int64_t n);
void load_row(const uint16_t* from, float* to, int64_t n);
/// Copies n elements from f32, rounding to nearest even.
void store_row(const float* from, float* to, int64_t n);
void store_row(const float* from, uint16_t* to, int64_t n);

/// Sum of a[i] b[i] in 16 lanes, so that the vector width does not change its order.
float sum_of_products(const float* a, const float* b, int64_t n);

/// y = x * factor * weight; y may be x.
void scale_row(const float* x, const float* weight, float factor, float* y, int64_t n);
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

}  // namespace deepseek::kernels
