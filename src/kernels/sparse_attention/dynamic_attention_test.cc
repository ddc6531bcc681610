// Against attention in f64 with every score written out, over all short lengths and around a tile; gradients against libtorch's autograd.
#include "kernels/sparse_attention/dynamic_attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::kernels {
namespace {

using Mode = DynamicAttentionOptions::Mode;
constexpr double kNever = -std::numeric_limits<double>::infinity();

struct Inputs {
  at::Tensor q, k, v;
};
Inputs inputs(int64_t batch, int64_t heads, int64_t kv_heads, int64_t queries, int64_t keys, int64_t dim, double seed = 0) {
  return {spread({batch, heads, queries, dim}, 0.1 + seed), spread({batch, kv_heads, keys, dim}, 0.4 + seed), spread({batch, kv_heads, keys, dim}, 0.8 + seed)};
}

at::Tensor spread_heads(const at::Tensor& x, int64_t heads) { return x.repeat_interleave(heads / x.size(1), 1); }

at::Tensor visible_keys(int64_t queries, int64_t keys, bool causal) {
  const at::Tensor query = at::arange(keys - queries, keys, at::kLong).unsqueeze(1), key = at::arange(keys, at::kLong).unsqueeze(0);
  return causal ? key <= query : (key >= 0).expand({queries, keys});
}

// Which keys each row keeps: ranks by a stable sort of f64 scores. [batch, heads, queries, keys] bool.
at::Tensor kept_keys(const at::Tensor& scores, const at::Tensor& seen, const DynamicAttentionOptions& o) {
  const auto [sorted, order] = at::sort(scores, true, -1, true);
  const at::Tensor rank = order.argsort(true, -1, false);
  const at::Tensor count = seen.sum(-1, true);
  if (o.mode == Mode::kRatio) return seen & (rank < (count.to(at::kDouble) * o.value).floor().clamp_min(1));
  if (o.mode == Mode::kTopK) return seen & (rank < o.value);
  const at::Tensor p = at::softmax(sorted * o.scale.value_or(1 / std::sqrt(16.0)), -1), before = p.cumsum(-1) - p;
  return seen & (((before < o.value) | (at::arange(scores.size(-1), at::kLong) < o.least)).gather(-1, rank));
}

at::Tensor masked_attention(const Inputs& in, const at::Tensor& kept, double scale) {
  const int64_t heads = in.q.size(1);
  const at::Tensor s = at::matmul(in.q, spread_heads(in.k, heads).transpose(-2, -1)) * scale;
  return at::matmul(at::softmax(s.masked_fill(~kept, kNever), -1), spread_heads(in.v, heads));
}

at::Tensor reference(const Inputs& in, const DynamicAttentionOptions& o) {
  const Inputs d{in.q.to(at::kDouble), in.k.to(at::kDouble), in.v.to(at::kDouble)};
  const at::Tensor seen = visible_keys(in.q.size(2), in.k.size(2), o.causal);
  const at::Tensor s = at::matmul(d.q, spread_heads(d.k, in.q.size(1)).transpose(-2, -1)).masked_fill(~seen, kNever);
  return masked_attention(d, kept_keys(s, seen, o), o.scale.value_or(1 / std::sqrt(static_cast<double>(in.q.size(3)))));
}

// A score of dim products below 4 errs by dim * 4 eps, its weight by that times scale; the sums of positive weights by their depth / 2 at
// most. The inputs have no two scores that differ by less at the edge of a selection.
double tolerance(int64_t dim, int64_t keys, double largest) { return 0x1p-23 * (4.0 * static_cast<double>(dim) + 0.5 * static_cast<double>(keys) + 16) * largest; }

DynamicAttentionOptions variant(int64_t i) {
  const bool causal = i % 2 == 1;
  switch (i % 3) {
    case 0: return {.mode = Mode::kRatio, .value = 0.4, .causal = causal};
    case 1: return {.mode = Mode::kTopK, .value = 1 + static_cast<double>(i / 2), .causal = causal};
    default: return {.mode = Mode::kTopP, .value = 0.7, .least = 1 + i % 5, .causal = causal};
  }
}

TEST(DynamicAttention, EqualsMaskedAttentionAtEveryLength) {
  for (int64_t n = 1; n <= 300; ++n) {
    const auto in = inputs(1, 2, 1 + n % 2, n % 7 == 0 ? n / 7 : n, n, 16);
    const auto o = variant(n);
    const at::Tensor expected = reference(in, o);
    EXPECT_LE(difference(dynamic_sparse_attention(in.q, in.k, in.v, o).out, expected), tolerance(16, n, 2)) << "length " << n;
    EXPECT_LE(difference(operators::dynamic_sparse_attention(in.q, in.k, in.v, o).out, expected), tolerance(16, n, 2)) << "operators, length " << n;
  }
}

TEST(DynamicAttention, EqualsMaskedAttentionAroundTwoThousand) {
  for (const int64_t n : {2047, 2048, 2049}) {
    const auto in = inputs(1, 1, 1, 100, n, 16);
    for (int64_t i = 0; i < 6; ++i) {
      const auto o = variant(i + 6);
      EXPECT_LE(difference(dynamic_sparse_attention(in.q, in.k, in.v, o).out, reference(in, o)), tolerance(16, n, 2)) << n << ", variant " << i;
    }
  }
}

TEST(DynamicAttention, OddDimsStridesAndBf16) {
  for (const int64_t dim : {1, 5, 40, 64, 80, 128}) {
    const auto in = inputs(2, 4, 2, 50, 70, dim);
    const DynamicAttentionOptions o{.mode = Mode::kTopK, .value = 9, .causal = true};
    EXPECT_LE(difference(dynamic_sparse_attention(in.q, in.k, in.v, o).out, reference(in, o)), tolerance(dim, 70, 2)) << dim;
    const auto turned = [](const at::Tensor& x) { return x.transpose(1, 2).contiguous().transpose(1, 2); };
    EXPECT_TRUE(dynamic_sparse_attention(turned(in.q), turned(in.k), turned(in.v), o).out.equal(dynamic_sparse_attention(in.q, in.k, in.v, o).out));
    const Inputs half{in.q.to(at::kBFloat16), in.k.to(at::kBFloat16), in.v.to(at::kBFloat16)};
    // bf16 inputs have many equal scores for a small dim; both sides give them to the lower index where f32 sums are exact.
    if (dim >= 40 || dim == 1) {
      EXPECT_LE(difference(dynamic_sparse_attention(half.q, half.k, half.v, o).out, reference(half, o)), 0x1p-8 * 2) << dim;
    }
  }
}

TEST(DynamicAttention, TiesGoToTheLowerIndex) {
  const at::Tensor q = at::zeros({1, 1, 3, 16}), v = at::arange(20, at::kFloat).view({1, 1, 20, 1}).expand({1, 1, 20, 16});
  const auto out = dynamic_sparse_attention(q, spread({1, 1, 20, 16}, 0.3), v, {.mode = Mode::kTopK, .value = 5}).out;
  EXPECT_LE((out - 2).abs().max().item<float>(), 4 * 0x1p-22f);  // the mean of 0, 1, 2, 3, 4
  const auto mass = dynamic_sparse_attention(q, spread({1, 1, 20, 16}, 0.3), v, {.mode = Mode::kTopP, .value = 0.49}).out;
  EXPECT_LE((mass - 4.5).abs().max().item<float>(), 9 * 0x1p-22f);  // ten keys of 1/20 reach 0.49
}

TEST(DynamicAttention, NanShowsAndNoScoreAtAllGivesZero) {
  auto in = inputs(1, 1, 1, 60, 60, 16);
  const DynamicAttentionOptions o{.value = 0.5, .causal = true};
  const auto clean = dynamic_sparse_attention(in.q, in.k, in.v, o).out;
  in.k.select(2, 50).fill_(std::numeric_limits<float>::quiet_NaN());
  const auto out = dynamic_sparse_attention(in.q, in.k, in.v, o).out;
  EXPECT_TRUE(out.narrow(2, 0, 50).equal(clean.narrow(2, 0, 50)));  // before the key that is not a number
  EXPECT_TRUE(out.narrow(2, 50, 10).isnan().all().item<bool>());
  EXPECT_TRUE(operators::dynamic_sparse_attention(in.q, in.k, in.v, o).out.isnan().equal(out.isnan()));
  const at::Tensor q = at::zeros({1, 1, 2, 16}) + 1, k = at::zeros({1, 1, 9, 16}) - std::numeric_limits<float>::infinity();
  const auto none = dynamic_sparse_attention(q, k, in.v.narrow(2, 0, 9), {});
  EXPECT_EQ(none.out.abs().max().item<float>(), 0.0f);
  const auto gradients = dynamic_sparse_attention_backward(q, q, k, in.v.narrow(2, 0, 9), none.rows, {});
  EXPECT_EQ(gradients.dv.abs().max().item<float>(), 0.0f);
}

TEST(DynamicAttention, HugeScoresStayFinite) {
  const auto in = inputs(1, 2, 2, 33, 65, 16);
  const double largest = in.v.abs().max().item<double>();
  for (const double factor : {1e2, 1e3, 3e3, 1e4, 3e4, 1e5, 1e15}) {  // from where neighbouring scores differ by less than 87 to where a float's last bit is more
    for (const double mass : {0.9, 1.0}) {
      const at::Tensor out = dynamic_sparse_attention(in.q * factor, in.k * factor, in.v, {.mode = Mode::kTopP, .value = mass}).out;
      EXPECT_LE(out.abs().max().item<double>(), largest * (1 + 1e-5)) << factor << ", " << mass;  // a mean of values; NaN fails
    }
  }
}

TEST(DynamicAttention, TheBatchAndTheThreadsChangeNoBit) {
  const auto in = inputs(3, 4, 2, 130, 130, 40);
  for (int64_t i = 0; i < 6; ++i) {
    const auto o = variant(i + 30);
    const auto whole = dynamic_sparse_attention(in.q, in.k, in.v, o);
    const auto back = dynamic_sparse_attention_backward(in.q, in.q, in.k, in.v, whole.rows, o);
    for (int64_t b = 0; b < 3; ++b) {
      const auto of = [&](const at::Tensor& x) { return x.narrow(0, b, 1); };
      const auto one = dynamic_sparse_attention(of(in.q), of(in.k), of(in.v), o);
      EXPECT_TRUE(one.out.equal(of(whole.out)));
      EXPECT_TRUE(dynamic_sparse_attention_backward(of(in.q), of(in.q), of(in.k), of(in.v), one.rows, o).dk.equal(of(back.dk)));
    }
    const int threads = at::get_num_threads();
    at::set_num_threads(threads == 1 ? 2 : 1);
    const auto again = dynamic_sparse_attention(in.q, in.k, in.v, o);
    const auto back_again = dynamic_sparse_attention_backward(in.q, in.q, in.k, in.v, again.rows, o);
    at::set_num_threads(threads);
    EXPECT_TRUE(again.out.equal(whole.out) && back_again.dq.equal(back.dq) && back_again.dk.equal(back.dk) && back_again.dv.equal(back.dv));
  }
}

TEST(DynamicAttention, GradientsEqualAutogradOverTheSameSelection) {
  for (int64_t i = 0; i < 6; ++i) {
    const auto in = inputs(2, 4, i % 2 == 0 ? 2 : 1, 60, 110, 16, 0.01 * static_cast<double>(i));
    const auto o = variant(i + 12);
    const at::Tensor d_out = spread({2, 4, 60, 16}, 0.6);
    const auto forward = dynamic_sparse_attention(in.q, in.k, in.v, o);
    const auto ours = dynamic_sparse_attention_backward(d_out, in.q, in.k, in.v, forward.rows, o);
    const auto theirs = operators::dynamic_sparse_attention_backward(d_out, in.q, in.k, in.v, operators::dynamic_sparse_attention(in.q, in.k, in.v, o).rows, o);
    const Inputs d{in.q.to(at::kDouble).requires_grad_(true), in.k.to(at::kDouble).requires_grad_(true), in.v.to(at::kDouble).requires_grad_(true)};
    torch::autograd::backward({reference(d, o)}, {d_out.to(at::kDouble)});
    // dk and dv sum 60 queries and up to 4 heads, each with the error of the forward pass and terms up to 16 * 2 * 2.
    const double tol = tolerance(16, 110, 64);
    EXPECT_LE(difference(ours.dq, d.q.grad()), tol) << i;
    EXPECT_LE(difference(ours.dk, d.k.grad()), tol) << i;
    EXPECT_LE(difference(ours.dv, d.v.grad()), tol) << i;
    EXPECT_LE(std::max({difference(theirs.dq, d.q.grad()), difference(theirs.dk, d.k.grad()), difference(theirs.dv, d.v.grad())}), tol) << "operators, " << i;
  }
}

TEST(DynamicAttention, RefusesWhatDoesNotFit) {
  const auto in = inputs(1, 4, 2, 8, 8, 16);
  const auto refused = [&](const at::Tensor& q, const at::Tensor& k, const DynamicAttentionOptions& o) { EXPECT_THROW(dynamic_sparse_attention(q, k, in.v, o), c10::Error); };
  for (const double ratio : {0.0, -0.1, 1.01, std::nan("")}) refused(in.q, in.k, {.value = ratio});
  for (const double count : {0.0, 9.0, 2.5}) refused(in.q, in.k, {.mode = Mode::kTopK, .value = count});
  refused(in.q, in.k, {.mode = Mode::kTopP, .value = 1.5});
  refused(in.q, in.k, {.scale = 0.0});
  refused(in.q.to(at::kBFloat16), in.k, {});
  refused(in.q.narrow(1, 0, 3), in.k, {});
  refused(in.q.narrow(2, 0, 0), in.k, {});
  refused(in.q, in.k.narrow(2, 0, 7), {});
  refused(in.q.repeat({1, 1, 2, 1}), in.k, {.causal = true});
  EXPECT_THROW(dynamic_attention_mode("best"), c10::Error);
}

}  // namespace
}  // namespace deepseek::kernels
