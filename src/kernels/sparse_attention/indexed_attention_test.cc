// Attention over lists of keys against masked attention in f64, gradients against autograd: the kernel and libtorch's operators.
#include "kernels/sparse_attention/indexed_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::kernels {
namespace {

struct Inputs {
  at::Tensor q, k, v, lists;
};

// Lists of up to `count` keys, some places empty.
at::Tensor lists_for(int64_t batch, int64_t queries, int64_t keys, int64_t count, double seed) {
  const at::Tensor order = std::get<1>(at::sort(spread({batch, queries, keys}, 0.2 + seed), -1)).narrow(2, 0, std::min(count, keys));
  return at::where((order + at::arange(queries, at::kLong).unsqueeze(1)) % 5 == 4, -1, order).to(at::kInt);
}

Inputs inputs(int64_t batch, int64_t heads, int64_t kv_heads, int64_t queries, int64_t keys, int64_t dim, int64_t value_dim, int64_t count, double seed = 0) {
  return {spread({batch, heads, queries, dim}, 0.1 + seed), spread({batch, kv_heads, keys, dim}, 0.4 + seed), spread({batch, kv_heads, keys, value_dim}, 0.8 + seed),
          lists_for(batch, queries, keys, count, seed)};
}

at::Tensor kept(const at::Tensor& lists, int64_t keys) {
  const at::Tensor mask = at::zeros({lists.size(0), lists.size(1), keys + 1}, at::kBool);
  mask.scatter_(2, at::where(lists < 0, keys, lists).to(at::kLong), at::ones(lists.sizes(), at::kBool));
  return mask.narrow(2, 0, keys).unsqueeze(1);
}

at::Tensor masked(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keep, double scale) {
  const auto spread_heads = [&](const at::Tensor& x) { return x.repeat_interleave(q.size(1) / x.size(1), 1); };
  const at::Tensor s = (at::matmul(q, spread_heads(k).transpose(-2, -1)) * scale).masked_fill(~keep, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(s, -1).nan_to_num(0), spread_heads(v));
}
at::Tensor reference(const Inputs& in, double scale) {
  return masked(in.q.to(at::kDouble), in.k.to(at::kDouble), in.v.to(at::kDouble), kept(in.lists, in.k.size(2)), scale);
}

// As in dynamic_attention_test: a score of dim products below 4 errs by dim * 4 eps, the sums of positive weights by their depth / 2.
double tolerance(int64_t dim, int64_t keys, double largest) { return 0x1p-23 * (4.0 * static_cast<double>(dim) + 0.5 * static_cast<double>(keys) + 16) * largest; }

TEST(IndexedAttention, EqualsMaskedAttentionAtEveryLength) {
  for (int64_t n = 1; n <= 300; ++n) {
    const auto in = inputs(1 + n % 2, 2, 1 + n % 2, n % 5 == 0 ? n / 5 : 3, n, 16, 16, 1 + n * 7 % 150);
    const at::Tensor expected = reference(in, 0.25);
    EXPECT_LE(difference(indexed_attention(in.q, in.k, in.v, in.lists).out, expected), tolerance(16, n, 2)) << "length " << n;
    EXPECT_LE(difference(operators::indexed_attention(in.q, in.k, in.v, in.lists, 0.25).out, expected), tolerance(16, n, 2)) << "operators, length " << n;
  }
}

// Heads in blocks of 4, 2 and 1, keys in blocks of 16 and of a chunk, rows of any number of vectors and a rest.
TEST(IndexedAttention, EveryGroupAndWidth) {
  for (const int64_t group : {1, 2, 3, 4, 5, 7, 8, 11}) {
    for (const int64_t dim : {7, 16, 31, 64, 72, 100, 130}) {
      const auto in = inputs(1, 2 * group, 2, 3, 120, dim, dim + group % 2 * 9, 15 + 3 * group);
      const double scale = 1 / std::sqrt(static_cast<double>(dim));
      EXPECT_LE(difference(indexed_attention(in.q, in.k, in.v, in.lists).out, reference(in, scale)), tolerance(dim, 120, 2)) << group << " heads of " << dim;
    }
  }
}

TEST(IndexedAttention, AroundTwoThousand) {
  for (const int64_t n : {2047, 2048, 2049}) {
    const auto in = inputs(1, 4, 2, 5, n, 16, 16, n);
    EXPECT_LE(difference(indexed_attention(in.q, in.k, in.v, in.lists).out, reference(in, 0.25)), tolerance(16, n, 2)) << n;
  }
}

TEST(IndexedAttention, LatentFormOddDimsAndBf16) {
  for (const auto& [dim, value_dim] : {std::pair{576, 512}, {40, 24}, {5, 3}, {1, 1}}) {
    auto in = inputs(2, 16, 1, 7, 90, dim, value_dim, 33);
    in.v = in.k.narrow(3, 0, value_dim);  // not contiguous
    const double scale = 0.1;
    EXPECT_LE(difference(indexed_attention(in.q, in.k, in.v, in.lists, scale).out, reference(in, scale)), tolerance(dim, 90, 2)) << dim;
    const auto half = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
    const Inputs low{half(in.q), half(in.k), half(in.v), in.lists};
    EXPECT_LE(difference(indexed_attention(low.q, low.k, low.v, low.lists, scale).out, reference(low, scale)), 0x1p-8 * 2) << dim;
  }
}

TEST(IndexedAttention, GradientsEqualAutogradOverTheSameLists) {
  for (const auto& [heads, kv_heads, dim, value_dim] : {std::array<int64_t, 4>{4, 2, 16, 16}, {2, 2, 16, 8}, {8, 1, 40, 24}}) {
    const auto in = inputs(2, heads, kv_heads, 30, 70, dim, value_dim, 20);
    const at::Tensor d_out = spread({2, heads, 30, value_dim}, 0.6);
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    const auto forward = indexed_attention(in.q, in.k, in.v, in.lists);
    const at::Tensor q = in.q.to(at::kDouble).requires_grad_(true), k = in.k.to(at::kDouble).requires_grad_(true), v = in.v.to(at::kDouble).requires_grad_(true);
    torch::autograd::backward({masked(q, k, v, kept(in.lists, 70), scale)}, {d_out.to(at::kDouble)});
    const double tol = tolerance(dim, 70, 64);
    for (const bool kernel : {true, false}) {
      const auto ours = kernel ? indexed_attention_backward(d_out, in.q, in.k, in.v, in.lists, forward)
                               : operators::indexed_attention_backward(d_out, in.q, in.k, in.v, in.lists, forward, scale);
      EXPECT_LE(difference(ours.dq, q.grad()), tol) << kernel;
      EXPECT_LE(difference(ours.dk, k.grad()), tol) << kernel;
      EXPECT_LE(difference(ours.dv, v.grad()), tol) << kernel;
    }
  }
}

TEST(IndexedAttention, QueriesWithoutKeysNanAndHugeScores) {
  auto in = inputs(1, 2, 1, 4, 20, 16, 16, 6);
  in.lists.select(1, 2).fill_(-1);
  const auto clean = indexed_attention(in.q, in.k, in.v, in.lists);
  EXPECT_EQ(clean.out.select(2, 2).abs().max().item<float>(), 0.0f);
  EXPECT_EQ(clean.log_sum_exp[0][0][2].item<float>(), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(indexed_attention_backward(clean.out, in.q, in.k, in.v, in.lists, clean).dq.select(2, 2).abs().max().item<float>(), 0.0f);
  in.lists.select(1, 0).fill_(3);
  in.lists.select(1, 1).fill_(4);
  in.k.select(2, 3).fill_(std::nanf(""));
  const auto out = indexed_attention(in.q, in.k, in.v, in.lists).out;
  EXPECT_TRUE(out.select(2, 0).isnan().all().item<bool>());
  EXPECT_TRUE(out.select(2, 1).isfinite().all().item<bool>());
  const auto huge = inputs(1, 2, 2, 9, 40, 16, 16, 12);
  EXPECT_TRUE(indexed_attention(huge.q * 1e15, huge.k * 1e15, huge.v, huge.lists).out.isfinite().all().item<bool>());
}

TEST(IndexedAttention, TheBatchAndTheThreadsChangeNoBit) {
  const auto in = inputs(3, 4, 2, 50, 90, 24, 24, 30);
  const auto whole = indexed_attention(in.q, in.k, in.v, in.lists);
  const auto back = indexed_attention_backward(whole.out, in.q, in.k, in.v, in.lists, whole);
  const auto of = [](const at::Tensor& x) { return x.narrow(0, 1, 1); };
  const auto one = indexed_attention(of(in.q), of(in.k), of(in.v), of(in.lists));
  EXPECT_TRUE(one.out.equal(of(whole.out)));
  EXPECT_TRUE(indexed_attention_backward(one.out, of(in.q), of(in.k), of(in.v), of(in.lists), one).dv.equal(of(back.dv)));
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const auto again = indexed_attention(in.q, in.k, in.v, in.lists);
  const auto back_again = indexed_attention_backward(again.out, in.q, in.k, in.v, in.lists, again);
  at::set_num_threads(threads);
  EXPECT_TRUE(again.out.equal(whole.out) && back_again.dq.equal(back.dq) && back_again.dk.equal(back.dk) && back_again.dv.equal(back.dv));
}

TEST(IndexedAttention, RefusesWhatDoesNotFit) {
  const auto in = inputs(1, 4, 2, 8, 9, 16, 16, 4);
  const auto refused = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& lists) {
    EXPECT_THROW(indexed_attention(q, k, v, lists), c10::Error);
  };
  refused(in.q, in.k, in.v, in.lists + 9);
  refused(in.q, in.k, in.v, in.lists - 1);
  refused(in.q, in.k, in.v, in.lists.to(at::kLong));
  refused(in.q, in.k, in.v, in.lists.narrow(1, 0, 7));
  refused(in.q, in.k, in.v.narrow(2, 0, 8), in.lists);
  refused(in.q.narrow(1, 0, 3), in.k, in.v, in.lists);
  refused(in.q.narrow(2, 0, 0), in.k, in.v, in.lists);
  refused(in.q, in.k.to(at::kBFloat16), in.v, in.lists);
  EXPECT_THROW(indexed_attention(in.q, in.k, in.v, in.lists, -1.0), c10::Error);
}

}  // namespace
}  // namespace deepseek::kernels
