// Attention over packed sequences against a plain one in f64, with gradients; checkpointing; linear layers with adapters.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "nn/functional.h"
#include "nn/linear.h"

namespace deepseek::nn {
namespace {

at::Tensor spread(std::vector<int64_t> shape, double offset) {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  at::Tensor values = at::arange(n, at::kDouble) * 0.6180339887498949 + offset;
  return ((values - values.floor() - 0.5) * 4).view(shape).to(at::kFloat);
}

// One sequence in f64, one head after the other, every score written out.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const int64_t queries = q.size(0), keys = k.size(0), heads = q.size(1), group = heads / k.size(1);
  const at::Tensor query = at::arange(keys - queries, keys, at::kLong).unsqueeze(1), key = at::arange(keys, at::kLong).unsqueeze(0);
  at::Tensor seen = key <= query;
  if (options.sliding_window > 0) seen = seen & (key > query - options.sliding_window);
  std::vector<at::Tensor> parts;
  for (int64_t h = 0; h < heads; ++h) {
    at::Tensor scores = at::matmul(q.select(1, h).to(at::kDouble), k.select(1, h / group).to(at::kDouble).t()) * options.scale;
    if (options.softcap > 0) scores = (scores / options.softcap).tanh() * options.softcap;
    scores = scores.masked_fill(~seen, -std::numeric_limits<double>::infinity());
    parts.push_back(at::matmul(at::softmax(scores, -1), v.select(1, h / group).to(at::kDouble)));
  }
  return at::cat(parts, 1);
}

struct AttentionCase {
  std::vector<int64_t> lengths;
  int64_t heads, kv_heads;
  AttentionOptions options;
};

class Attention : public ::testing::TestWithParam<AttentionCase> {};
INSTANTIATE_TEST_SUITE_P(Packed, Attention,
                         ::testing::Values(AttentionCase{{1}, 2, 2, {0.25, 0, 0}}, AttentionCase{{5, 1, 17}, 4, 1, {0.25, 0, 0}},
                                           AttentionCase{{8, 8, 8}, 4, 2, {0.3, 0, 0}}, AttentionCase{{8, 8, 8}, 4, 4, {0.3, 0, 0}},
                                           AttentionCase{{33, 9}, 6, 3, {0.25, 0, 4}}, AttentionCase{{12, 12}, 4, 1, {0.25, 0, 5}},
                                           AttentionCase{{19, 3, 64}, 4, 2, {0.25, 2.0, 0}}, AttentionCase{{40}, 4, 2, {0.25, 2.0, 7}},
                                           AttentionCase{{65, 64, 63}, 4, 1, {0.25, 0, 1}}));

TEST_P(Attention, EqualsPlainAttentionOfEachSequenceWithGradients) {
  const auto& [lengths, heads, kv_heads, options] = GetParam();
  std::vector<int64_t> offsets{0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + length);
  const int64_t total = offsets.back(), dim = 16;
  std::vector<at::Tensor> ours{spread({total, heads, dim}, 0.1), spread({total, kv_heads, dim}, 0.4), spread({total, kv_heads, dim}, 0.8)};
  std::vector<at::Tensor> plain;
  for (auto& tensor : ours) {
    plain.push_back(tensor.clone().requires_grad_(true));
    tensor.requires_grad_(true);
  }
  const at::Tensor out = packed_attention(ours[0], ours[1], ours[2], offsets, options);
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, offsets[i], offsets[i + 1] - offsets[i]); };
    parts.push_back(plain_attention(part(plain[0]), part(plain[1]), part(plain[2]), options));
  }
  const at::Tensor expected = at::cat(parts, 0), gradient = spread({total, heads * dim}, 0.33);
  // Scores reach 16 * 4 * scale and softmax turns their f32 error into a relative one.
  constexpr double kTolerance = 64 * 0x1p-23 * 4;
  EXPECT_LE((out.to(at::kDouble) - expected).abs().max().item<double>(), kTolerance * 2);
  torch::autograd::backward({out}, {gradient});
  torch::autograd::backward({expected}, {gradient.to(at::kDouble)});
  for (int i = 0; i < 3; ++i) {
    const at::Tensor want = plain[i].grad().to(at::kDouble);
    EXPECT_LE((ours[i].grad().to(at::kDouble) - want).abs().max().item<double>(), kTolerance * (1 + want.abs().max().item<double>()) * 4) << "tensor " << i;
  }
}

TEST_P(Attention, LastQueriesOverACacheEqualTheWhole) {
  const auto& [lengths, heads, kv_heads, options] = GetParam();
  const int64_t keys = lengths[0];
  const at::Tensor q = spread({keys, heads, 16}, 0.1), k = spread({keys, kv_heads, 16}, 0.4), v = spread({keys, kv_heads, 16}, 0.8);
  const at::Tensor whole = plain_attention(q, k, v, options);
  for (int64_t queries = 1; queries <= std::min<int64_t>(keys, 3); ++queries) {
    const at::Tensor last = cached_attention(q.narrow(0, keys - queries, queries), k, v, options);
    EXPECT_LE((last.to(at::kDouble) - whole.narrow(0, keys - queries, queries)).abs().max().item<double>(), 1e-4);
  }
}

TEST(Checkpoint, GivesTheSameValueAndGradients) {
  const at::Tensor weight = spread({6, 6}, 0.2).requires_grad_(true), input = spread({3, 6}, 0.5);
  const auto body = [&](const at::Tensor& x) { return at::matmul(x, weight).tanh() * x; };
  at::Tensor x = input.clone().requires_grad_(true);
  const at::Tensor plain = body(x).pow(2).sum();
  torch::autograd::backward({plain}, {});
  const at::Tensor dx = x.grad().clone(), dw = weight.grad().clone();
  weight.mutable_grad().reset();
  at::Tensor again = input.clone().requires_grad_(true);
  const at::Tensor saved = checkpoint(body, again).pow(2).sum();
  EXPECT_EQ(saved.item<float>(), plain.item<float>());
  torch::autograd::backward({saved}, {});
  EXPECT_TRUE(dx.equal(again.grad()));
  EXPECT_TRUE(dw.equal(weight.grad()));
}

Linear layer(bool bias, bool dora) {
  Linear out{.name = "layer", .weight = spread({7, 5}, 0.1), .bias = bias ? spread({7}, 0.7) : at::Tensor(), .lora = {}};
  out.lora = Lora{.a = spread({2, 5}, 0.3), .b = spread({7, 2}, 0.9), .magnitude = dora ? spread({7}, 0.6).abs() + 0.5 : at::Tensor(), .scale = 0.5};
  return out;
}

TEST(Linear, AdapterEqualsItsMergedWeight) {
  const at::Tensor x = spread({4, 5}, 0.25);
  for (const bool bias : {false, true}) {
    for (const bool dora : {false, true}) {
      Linear adapted = layer(bias, dora);
      const at::Tensor y = adapted.forward(x);
      at::Tensor expected = at::matmul(x, adapted.merged_weight().t());
      if (bias) expected = expected + adapted.bias;
      EXPECT_LE((y - expected).abs().max().item<double>(), 1e-4);
      adapted.merge();
      EXPECT_FALSE(adapted.lora);
      EXPECT_LE((adapted.forward(x) - y).abs().max().item<double>(), 1e-4);
    }
  }
}

TEST(Linear, DropoutActsOnTheAdaptersInputOnly) {
  Linear adapted = layer(true, false);
  adapted.lora->dropout = 0.5;
  const at::Tensor x = spread({64, 5}, 0.25), off = adapted.forward(x);
  adapted.lora->dropout_seed = 9;
  const at::Tensor on = adapted.forward(x);
  EXPECT_FALSE(on.equal(off));
  EXPECT_TRUE(on.equal(adapted.forward(x)));
  adapted.lora->b.zero_();
  EXPECT_LE((adapted.forward(x) - (at::matmul(x, adapted.weight.t()) + adapted.bias)).abs().max().item<double>(), 1e-5);
}

}  // namespace
}  // namespace deepseek::nn
