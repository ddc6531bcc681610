// Loss and gradients of the indexer against autograd in f64 over the full matrix of scores: the kernel and libtorch's operators.
#include "kernels/sparse_attention/indexer_loss.h"

#include <ATen/Parallel.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <ATen/ops/xlogy.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/simd.h"
#include "kernels/sparse_attention/indexer.h"
#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::kernels {
namespace {

struct Sizes {
  int64_t batch = 1, queries = 40, keys = 40, heads = 4, kv_heads = 2, dim = 24, index_heads = 3, index_dim = 20;
};
IndexerLossInputs inputs(const Sizes& s, double seed = 0) {
  return {.index_q = spread({s.batch, s.queries, s.index_heads, s.index_dim}, 0.1 + seed),
          .index_k = spread({s.batch, s.keys, s.index_dim}, 0.4 + seed),
          .index_weights = spread({s.batch, s.queries, s.index_heads}, 0.8 + seed),
          .q = spread({s.batch, s.heads, s.queries, s.dim}, 0.3 + seed),
          .k = spread({s.batch, s.kv_heads, s.keys, s.dim}, 0.6 + seed)};
}
IndexerLossInputs with_lists(IndexerLossInputs in, double count) {
  in.keys = select_keys(in.index_q, in.index_k, in.index_weights, {.value = count});
  return in;
}

// The definition, in f64, by autograd.
IndexerLossResult reference(const IndexerLossInputs& in, const IndexerLossOptions& o) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).detach().clone().set_requires_grad(true); };
  const at::Tensor index_q = leaf(in.index_q), index_k = leaf(in.index_k), weights = leaf(in.index_weights);
  const at::Tensor k = in.k.to(at::kDouble).repeat_interleave(in.q.size(1) / in.k.size(1), 1);
  at::Tensor seen = operators::visible(in.q.size(2), in.k.size(2), at::kCPU).unsqueeze(0).expand({in.q.size(0), -1, -1}).clone();
  if (in.keys.defined()) {
    const at::Tensor named = (in.keys.unsqueeze(-1) == at::arange(in.k.size(2), at::kInt)).any(2);
    seen = seen & named;
  }
  const double none = -std::numeric_limits<double>::infinity();
  const at::Tensor p = at::softmax((at::matmul(in.q.to(at::kDouble), k.transpose(-2, -1)) * o.scale).masked_fill(~seen.unsqueeze(1), none), -1).mean(1);
  const at::Tensor each = at::matmul(index_q, index_k.unsqueeze(1).transpose(-2, -1)).relu();
  const at::Tensor x = (each * weights.unsqueeze(-1)).sum(2).masked_fill(~seen, none), log = at::log_softmax(x, -1);
  IndexerLossResult r;
  r.loss = (at::xlogy(p, p) - p * at::where(seen, log, 0.0)).sum(-1);
  r.loss.sum().backward();
  r.d_index_q = index_q.grad(), r.d_index_k = index_k.grad(), r.d_index_weights = weights.grad();
  if (o.recall_of > 0) {
    const auto mass = [&](const at::Tensor& of) { return p.gather(-1, std::get<1>(at::sort(of, true, -1, true)).narrow(-1, 0, std::min(o.recall_of, p.size(-1)))).sum(-1); };
    r.kept = mass(x.detach()), r.most = mass(p);
  }
  return r;
}

void expect_same(const IndexerLossResult& got, const IndexerLossResult& want, const std::string& where) {
  EXPECT_LE(difference(got.loss, want.loss), 4e-5) << where;  // sums of thousands of terms in f32
  EXPECT_LE(difference(got.d_index_q, want.d_index_q), 2e-5) << where;
  EXPECT_LE(difference(got.d_index_k, want.d_index_k), 4e-5) << where;
  EXPECT_LE(difference(got.d_index_weights, want.d_index_weights), 2e-5) << where;
  if (want.kept.defined()) {
    EXPECT_LE(difference(got.kept, want.kept), 1e-5) << where;
    EXPECT_LE(difference(got.most, want.most), 1e-5) << where;
  }
}

TEST(IndexerLoss, EqualsAutogradAtEveryLength) {
  for (int64_t n = 1; n <= 300; n += n < 80 ? 1 : 11) {
    const Sizes s{.batch = 1 + n % 2, .queries = n % 5 == 0 ? n / 5 : n, .keys = n, .kv_heads = n % 3 == 0 ? 4 : 1};
    const IndexerLossInputs in = inputs(s), listed = with_lists(in, static_cast<double>(1 + n / 3));
    const IndexerLossOptions o{.scale = 0.7, .recall_of = 1 + n / 4};
    expect_same(indexer_loss(in, o), reference(in, o), "length " + std::to_string(n));
    expect_same(indexer_loss(listed, o), reference(listed, o), "lists at length " + std::to_string(n));
    if (n % 10 != 0) continue;
    expect_same(operators::indexer_loss(in, o), reference(in, o), "operators at length " + std::to_string(n));
    expect_same(operators::indexer_loss(listed, o), reference(listed, o), "operators, lists at length " + std::to_string(n));
  }
}

TEST(IndexerLoss, LongRowsAndHalfPrecision) {
  IndexerLossInputs in = inputs({.queries = 30, .keys = 2051, .dim = 64, .index_dim = 32});
  in.q = in.q.to(at::kBFloat16), in.k = in.k.to(at::kBFloat16);
  const IndexerLossOptions o{.scale = 0.25, .recall_of = 64};
  expect_same(indexer_loss(in, o), reference(in, o), "2,051 keys");
  const IndexerLossResult without = indexer_loss(in, {.scale = 0.25, .gradients = false});
  EXPECT_TRUE(without.loss.equal(indexer_loss(in, o).loss));
  EXPECT_FALSE(without.d_index_q.defined());
  EXPECT_FALSE(without.kept.defined());
}

TEST(IndexerLoss, ThreadsAndNeighboursChangeNothing) {
  const IndexerLossInputs in = with_lists(inputs({.batch = 3, .queries = 131, .keys = 150}), 40);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const IndexerLossResult one = indexer_loss(in, {.recall_of = 10});
  at::set_num_threads(2);
  const IndexerLossResult two = indexer_loss(in, {.recall_of = 10});
  at::set_num_threads(threads);
  const auto row = [](const at::Tensor& x) { return x.narrow(0, 1, 1); };
  const IndexerLossResult alone = indexer_loss({row(in.index_q), row(in.index_k), row(in.index_weights), row(in.q), row(in.k), row(in.keys)}, {.recall_of = 10});
  for (const auto field : {&IndexerLossResult::loss, &IndexerLossResult::d_index_q, &IndexerLossResult::d_index_k, &IndexerLossResult::d_index_weights, &IndexerLossResult::kept,
                           &IndexerLossResult::most}) {
    EXPECT_TRUE((one.*field).equal(two.*field));
    EXPECT_TRUE((alone.*field).equal(row(one.*field)));
  }
}

// Scores of the main attention far apart, and a row whose scores are not finite.
TEST(IndexerLoss, ExtremeScores) {
  IndexerLossInputs in = inputs({.queries = 70, .keys = 70});
  in.q = in.q * 300;
  in.index_q = in.index_q * 30;
  const IndexerLossResult got = indexer_loss(in), want = reference(in, {});
  EXPECT_LE(((got.loss - want.loss) / (want.loss.abs() + 1)).abs().max().item<double>(), 1e-4);
  EXPECT_TRUE(got.d_index_q.isfinite().all().item<bool>());

  in.index_q[0][50][1][0] = std::nanf("");
  const IndexerLossResult bad = indexer_loss(in, {.recall_of = 5});
  EXPECT_TRUE(bad.loss[0][50].isnan().item<bool>());
  EXPECT_TRUE(bad.kept[0][50].isnan().item<bool>());
  EXPECT_TRUE(bad.loss.isnan().sum().item<int64_t>() == 1) << bad.loss;
}

TEST(IndexerLoss, NanOfOneHeadShowsInItsGradient) {
  IndexerLossInputs in = inputs({.queries = 5, .keys = 9});
  in.index_q.select(1, 2).select(1, 1).fill_(std::numeric_limits<float>::quiet_NaN());
  const IndexerLossResult r = indexer_loss(in);
  EXPECT_TRUE(r.loss[0][2].isnan().item<bool>());
  EXPECT_TRUE(r.d_index_weights[0][2].isnan().all().item<bool>());
  EXPECT_FALSE(r.loss[0][1].isnan().item<bool>());
}

TEST(IndexerLoss, ALossOfZeroWhereTheScoresAreTheLogits) {
  const Sizes s{.heads = 1, .kv_heads = 1, .dim = 16, .index_heads = 1, .index_dim = 16};
  IndexerLossInputs in = inputs(s);
  in.q = in.q.abs(), in.k = in.k.abs();  // relu leaves them
  in.index_q = in.q.transpose(1, 2), in.index_k = in.k.squeeze(1), in.index_weights = in.index_weights.abs() * 0 + 0.5;
  const IndexerLossResult r = indexer_loss(in, {.scale = 0.5, .recall_of = 7});
  EXPECT_LE(r.loss.abs().max().item<double>(), 1e-5);
  EXPECT_LE(r.d_index_q.abs().max().item<double>(), 1e-5);
  EXPECT_LE(difference(r.kept, r.most), 1e-5);
}

TEST(IndexerLoss, Refusals) {
  const IndexerLossInputs good = inputs({});
  const auto refused = [&](const std::string& text, const auto& spoil) {
    IndexerLossInputs in = good;
    IndexerLossOptions o;
    spoil(in, o);
    try {
      indexer_loss(in, o);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const c10::Error& e) {
      EXPECT_NE(std::string(e.what_without_backtrace()).find(text), std::string::npos) << e.what_without_backtrace();
    }
  };
  refused("do not belong together", [](auto& in, auto&) { in.index_k = in.index_k.narrow(2, 0, 8); });
  refused("do not belong to an indexer of", [](auto& in, auto&) { in.k = in.k.narrow(2, 0, 30); });
  refused("do not belong to an indexer of", [](auto& in, auto&) { in.q = in.q.narrow(1, 0, 3); });
  refused("trained in f32", [](auto& in, auto&) { in.index_q = in.index_q.to(at::kBFloat16), in.index_k = in.index_k.to(at::kBFloat16); });
  refused("lists of keys", [](auto& in, auto&) { in.keys = at::zeros({1, 3, 4}, at::kInt); });
  refused("scale must be above 0", [](auto&, auto& o) { o.scale = 0; });
  refused("empty", [](auto& in, auto&) { in.index_q = in.index_q.narrow(1, 0, 0); });
}

TEST(IndexerLoss, LogarithmIsAccurate) {
  double worst = 0;
  for (float x = 1e-35f; x < 4; x *= 1.00037f) worst = std::max(worst, std::abs(fast_log(x) - std::log(static_cast<double>(x))) / std::max(1.0, std::abs(std::log(static_cast<double>(x)))));
  EXPECT_LT(worst, 2e-7);
}

}  // namespace
}  // namespace deepseek::kernels
