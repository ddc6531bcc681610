// The operations between matrix products, each in one pass over its rows: RMSNorm, rotary embedding, gated activation.
// All take f32 or bf16 and compute in f32. On a device other than the CPU they run as libtorch operators.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace deepseek::kernels {

/// y = x / sqrt(mean(x^2) + eps) * (plus_one ? 1 + weight : weight) over the last dimension.
/// x: [..., n] contiguous; weight: [n], any float type. Returns y and 1/rms (f32, one per row). Source: Zhang & Sennrich 2019.
std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one);
/// dx of rms_norm for an output gradient dy.
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd, bool plus_one);

/// Rotates pairs (i, i + dim/2) of x [T, heads, dim] by positions[t] * inverse_frequencies[i]; `inverse` rotates back, which is
/// also the gradient. positions: [T] i64; inverse_frequencies: [dim/2] f32. Source: RoFormer, in the half-split layout of Llama.
at::Tensor rope(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& inverse_frequencies, bool inverse);

/// act(gate) * up, act = SiLU, or GELU by tanh. Shapes and types equal.
at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, bool gelu);
/// Gradients of glu with respect to gate and up.
std::pair<at::Tensor, at::Tensor> glu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up, bool gelu);

/// Each element becomes 0 with probability p, else x / (1 - p). The choice is a hash of seed and position, so the same call gives
/// the same mask and the gradient is the same function of dy. x: f32|bf16, p in [0, 1).
at::Tensor dropout(const at::Tensor& x, double p, uint64_t seed);

}  // namespace deepseek::kernels
