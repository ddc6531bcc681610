// The layer against attention written out in f64 with the same weights, its gradients against autograd, and what it refuses.
#include "nn/sparse_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <map>

#include "kernels/sparse_attention/indexed_attention.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::nn {
namespace {

using kernels::difference;
using kernels::spread;
using Mode = DynamicSparseAttentionOptions::Mode;

std::map<std::string, at::Tensor> in_f64(const DynamicSparseAttention& layer) {
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, w] : layer.named_parameters()) weights[name] = w.detach().to(at::kDouble).requires_grad_(true);
  return weights;
}

// The published sample's meaning with -infinity as its mask and the scale of 1 / sqrt(dim): keeps the largest `count(visible)` scores.
at::Tensor written_out(std::map<std::string, at::Tensor>& w, const at::Tensor& x, int64_t heads, bool causal, const std::function<int64_t(int64_t)>& count) {
  const int64_t length = x.size(1), dim = x.size(2) / heads;
  const auto parts = at::linear(x, w["qkv.weight"], w["qkv.bias"]).split(x.size(2), 2);
  const auto head = [&](const at::Tensor& t) { return t.unflatten(2, {heads, dim}).transpose(1, 2); };
  at::Tensor s = at::matmul(head(parts[0]), head(parts[1]).transpose(-2, -1)) / std::sqrt(static_cast<double>(dim));
  const double none = -std::numeric_limits<double>::infinity();
  const at::Tensor position = at::arange(length, at::kLong);
  if (causal) s = s.masked_fill(position.unsqueeze(0) > position.unsqueeze(1), none);
  const at::Tensor sorted = std::get<0>(at::sort(s.detach(), -1, true));
  at::Tensor least = at::zeros({length, 1}, at::kLong);
  for (int64_t i = 0; i < length; ++i) least[i][0] = count(causal ? i + 1 : length) - 1;
  const at::Tensor threshold = sorted.gather(-1, least.expand({x.size(0), heads, length, 1}));
  const at::Tensor p = at::softmax(s.masked_fill(s.detach() < threshold, none), -1);
  return at::linear(at::matmul(p, head(parts[2])).transpose(1, 2).flatten(2), w["proj.weight"], w["proj.bias"]);
}

TEST(DynamicSparseAttention, IsThePublishedLayerMendedWithGradients) {
  for (const bool causal : {false, true}) {
    for (const bool by_count : {false, true}) {
      const DynamicSparseAttention layer(32, 4, 0.6, {.mode = by_count ? Mode::kTopK : Mode::kRatio, .top_k = 7, .causal = causal, .seed = 3});
      const at::Tensor x = spread({2, 37, 32}, 0.3), d_out = spread({2, 37, 32}, 0.7);
      auto weights = in_f64(layer);
      const auto count = [&](int64_t visible) { return by_count ? std::min<int64_t>(7, visible) : std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(visible) * (1 - 0.6))); };
      const at::Tensor expected = written_out(weights, x.to(at::kDouble), 4, causal, count), out = layer.forward(x);
      const double tolerance = 0x1p-23 * (32 + 37 + 32);  // sums of 32 and 37 products of values below 1
      EXPECT_LE(difference(out, expected), tolerance);
      torch::autograd::backward({out}, {d_out});
      torch::autograd::backward({expected}, {d_out.to(at::kDouble)});
      for (const auto& [name, w] : layer.named_parameters()) EXPECT_LE(difference(w.grad(), weights[name].grad()), 74 * tolerance) << name;  // sums over 74 rows
    }
  }
}

TEST(DynamicSparseAttention, NoSparsityIsDenseAndSeedsRepeat) {
  const DynamicSparseAttention dense(16, 2, 0), same(16, 2, 0), all(16, 2, 0.5, {.mode = Mode::kTopP, .top_p = 1.0}), other(16, 2, 0, {.seed = 1});
  const at::Tensor x = spread({1, 9, 16}, 0.3);
  EXPECT_TRUE(dense.forward(x).equal(same.forward(x)));
  EXPECT_TRUE(dense.forward(x).equal(all.forward(x)));
  EXPECT_FALSE(dense.forward(x).equal(other.forward(x)));
  auto weights = in_f64(dense);
  EXPECT_LE(difference(dense.forward(x), written_out(weights, x.to(at::kDouble), 2, false, [](int64_t n) { return n; })), 0x1p-23 * 41);
}

TEST(DynamicSparseAttention, RefusesWhatDoesNotFit) {
  EXPECT_THROW(DynamicSparseAttention(30, 4), c10::Error);
  for (const double ratio : {-0.1, 1.0, std::nan("")}) EXPECT_THROW(DynamicSparseAttention(32, 4, ratio), c10::Error);
  EXPECT_THROW(DynamicSparseAttention(32, 4, 0.6, {.mode = Mode::kTopP, .top_p = 0}), c10::Error);
  EXPECT_THROW(DynamicSparseAttention(32, 4, 0.6, {.mode = Mode::kTopK, .top_k = 0.5}), c10::Error);
  const DynamicSparseAttention layer(32, 4);
  EXPECT_THROW(layer.forward(spread({2, 5, 31}, 0)), c10::Error);
  EXPECT_THROW(layer.forward(spread({2, 0, 32}, 0)), c10::Error);
}

TEST(IndexedAttention, HasTheKernelsGradients) {
  const at::Tensor q = spread({1, 4, 9, 16}, 0.1).requires_grad_(true), k = spread({1, 2, 20, 16}, 0.4).requires_grad_(true), v = spread({1, 2, 20, 16}, 0.8).requires_grad_(true);
  const at::Tensor lists = (at::arange(9 * 5, at::kInt) % 20).view({1, 9, 5});
  const at::Tensor out = indexed_attention(q, k, v, lists);
  const auto forward = kernels::indexed_attention(q.detach(), k.detach(), v.detach(), lists);
  EXPECT_TRUE(out.equal(forward.out));
  torch::autograd::backward({out}, {forward.out});
  const auto expected = kernels::indexed_attention_backward(forward.out, q.detach(), k.detach(), v.detach(), lists, forward);
  EXPECT_TRUE(q.grad().equal(expected.dq) && k.grad().equal(expected.dk) && v.grad().equal(expected.dv));
}

}  // namespace
}  // namespace deepseek::nn
