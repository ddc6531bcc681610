// Choices of the indexer against ranks of f64 scores, over all short lengths and around 2,048: the kernel and libtorch's operators.
#include "kernels/sparse_attention/indexer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/test_values.h"

namespace deepseek::kernels {
namespace {

using Mode = IndexerOptions::Mode;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Inputs {
  at::Tensor q, k, weights;
};
Inputs inputs(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t dim, double seed = 0) {
  return {spread({batch, queries, heads, dim}, 0.1 + seed), spread({batch, keys, dim}, 0.4 + seed), spread({batch, queries, heads}, 0.8 + seed)};
}

// f64 scores, -infinity where a key is not visible.
at::Tensor scores(const Inputs& in, bool causal) {
  const at::Tensor each = at::matmul(in.q.to(at::kDouble), in.k.to(at::kDouble).transpose(1, 2).unsqueeze(1)).clamp_min(0);
  const at::Tensor x = at::matmul(in.weights.to(at::kDouble).unsqueeze(2), each).squeeze(2);
  return causal ? x.masked_fill(~operators::visible(in.q.size(1), in.k.size(1), at::kCPU), -kInfinity) : x;
}

// A list is right where no key left out has a score above one that was taken, by more than f32's error.
void expect_largest(const at::Tensor& keys, const at::Tensor& x, const at::Tensor& counts, const std::string& where) {
  const at::Tensor taken = at::zeros({x.size(0), x.size(1), x.size(2) + 1}, at::kBool);
  taken.scatter_(2, at::where(keys < 0, x.size(2), keys).to(at::kLong), at::ones(keys.sizes(), at::kBool));
  const at::Tensor kept = taken.narrow(2, 0, x.size(2));
  EXPECT_TRUE(kept.sum(-1).equal(counts)) << where << kept.sum(-1) << counts;
  const at::Tensor worst = x.masked_fill(~kept, kInfinity).amin(-1), best = x.masked_fill(kept, -kInfinity).amax(-1);
  EXPECT_LE((best - worst).max().item<double>(), 1e-4) << where;  // 4 heads of 16 products up to 16 in f32: 2^-23 * 64 * 16
  const at::Tensor next = keys.narrow(2, 1, keys.size(2) - 1), before = keys.narrow(2, 0, keys.size(2) - 1);
  EXPECT_TRUE(((next > before) | (next == -1)).all().item<bool>()) << where << ": not ascending";
}

at::Tensor visible_counts(int64_t queries, int64_t keys, bool causal) {
  return causal ? at::arange(keys - queries + 1, keys + 1, at::kLong).unsqueeze(0) : (at::zeros({1, queries}, at::kLong) + keys);
}

TEST(Indexer, TopKTakesTheLargestAtEveryLength) {
  for (int64_t n = 1; n <= 300; ++n) {
    const auto in = inputs(1, n % 7 == 0 ? n / 7 : n, n, 4, 16);
    const IndexerOptions o{.value = static_cast<double>(1 + n * 3 % 90), .causal = n % 2 == 0};
    const at::Tensor x = scores(in, o.causal), counts = visible_counts(in.q.size(1), n, o.causal).clamp_max(static_cast<int64_t>(o.value));
    expect_largest(select_keys(in.q, in.k, in.weights, o), x, counts, "length " + std::to_string(n));
    expect_largest(operators::select_keys(in.q, in.k, in.weights, o), x, counts, "operators, length " + std::to_string(n));
  }
}

TEST(Indexer, AroundTwoThousandAndItsOwnTopK) {
  for (const int64_t n : {2047, 2048, 2049, 2112}) {
    const auto in = inputs(1, 9, n, 4, 16);
    for (const double k : {64.0, 2047.0, 2048.0, 4096.0}) {
      const at::Tensor counts = visible_counts(9, n, true).clamp_max(static_cast<int64_t>(k));
      expect_largest(select_keys(in.q, in.k, in.weights, {.value = k}), scores(in, true), counts, std::to_string(k) + " of " + std::to_string(n));
    }
  }
}

TEST(Indexer, TopPKeepsTheAskedMassAndItsBounds) {
  for (const int64_t n : {1, 2, 31, 64, 65, 200}) {
    const auto in = inputs(2, n, n, 4, 16);
    for (const double p : {0.3, 0.9, 1.0}) {
      const IndexerOptions o{.mode = Mode::kTopP, .value = p, .least = 3, .most = 40};
      const at::Tensor x = scores(in, true), sorted = std::get<0>(at::sort(at::softmax(x, -1), -1, true));
      const at::Tensor visible = visible_counts(n, n, true).expand({2, n});
      const at::Tensor counts = at::minimum(at::minimum(((sorted.cumsum(-1) - sorted) < p - 1e-7).sum(-1).clamp_min(3), visible), at::zeros({1}, at::kLong) + 40);
      expect_largest(select_keys(in.q, in.k, in.weights, o), x, p < 1 ? counts : visible.clamp_max(40), std::to_string(p) + " of " + std::to_string(n));
      EXPECT_TRUE(operators::select_keys(in.q, in.k, in.weights, o).equal(select_keys(in.q, in.k, in.weights, o))) << n;
    }
  }
}

TEST(Indexer, EqualScoresGoToTheLowerKey) {
  const auto keys = select_keys(at::zeros({1, 1, 2, 8}), spread({1, 50, 8}, 0.3), at::ones({1, 1, 2}), {.value = 5});
  EXPECT_TRUE(keys.flatten().equal(at::arange(5, at::kInt)));
}

TEST(Indexer, NanAndInfinityCountAsTheLargest) {
  auto in = inputs(1, 1, 100, 4, 16);
  in.weights.fill_(1);
  in.k.select(1, 17).fill_(std::nanf(""));
  in.k.select(1, 60).fill_(kInfinity);
  for (const auto& keys : {select_keys(in.q, in.k, in.weights, {.value = 2}), operators::select_keys(in.q, in.k, in.weights, {.value = 2})}) {
    EXPECT_EQ(keys[0][0][0].item<int>(), 17);
    EXPECT_EQ(keys[0][0][1].item<int>(), 60);
  }
}

TEST(Indexer, ThreadsBatchAndStridesChangeNothing) {
  const auto in = inputs(3, 70, 130, 4, 24);
  const IndexerOptions o{.mode = Mode::kTopP, .value = 0.8};
  const at::Tensor all = select_keys(in.q, in.k, in.weights, o);
  EXPECT_TRUE(select_keys(in.q.narrow(0, 1, 1), in.k.narrow(0, 1, 1), in.weights.narrow(0, 1, 1), o).equal(all.narrow(0, 1, 1)));
  EXPECT_TRUE(select_keys(in.q.transpose(1, 2).contiguous().transpose(1, 2), in.k, in.weights, o).equal(all));
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  EXPECT_TRUE(select_keys(in.q, in.k, in.weights, o).equal(all));
  at::set_num_threads(threads);
  const auto half = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  EXPECT_TRUE(select_keys(half(in.q), half(in.k), in.weights, o).equal(select_keys(half(in.q).to(at::kFloat), half(in.k).to(at::kFloat), in.weights, o)));
}

TEST(Indexer, ScoresHaveTheFormula) {
  const auto in = inputs(2, 5, 9, 4, 16);
  const at::Tensor seen = operators::visible(5, 9, at::kCPU);
  const at::Tensor ours = index_scores(in.q, in.k, in.weights, true);
  EXPECT_TRUE(ours.masked_fill(seen, 0).eq(-kInfinity).logical_or(seen).all().item<bool>());
  EXPECT_LE(difference(ours.masked_fill(~seen, 0), scores(in, true).masked_fill(~seen, 0)), 1e-4);
}

TEST(Indexer, RefusesWhatDoesNotFit) {
  const auto in = inputs(1, 4, 8, 2, 16);
  const auto refused = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& w, const IndexerOptions& o) { EXPECT_THROW(select_keys(q, k, w, o), c10::Error); };
  for (const double k : {0.0, 1.5, -3.0, 1e12, std::nan("")}) refused(in.q, in.k, in.weights, {.value = k});
  for (const double p : {0.0, 1.1}) refused(in.q, in.k, in.weights, {.mode = Mode::kTopP, .value = p});
  refused(in.q, in.k, in.weights, {.mode = Mode::kTopP, .value = 0.5, .least = 9, .most = 8});
  refused(in.q, in.k.narrow(1, 0, 3), in.weights, {});
  refused(in.q, in.k.narrow(1, 0, 0), in.weights, {});
  refused(in.q, in.k.narrow(2, 0, 8), in.weights, {});
  refused(in.q, in.k.to(at::kBFloat16), in.weights, {});
  refused(in.q, in.k, in.weights.narrow(2, 0, 1), {});
  refused(in.q, in.k, in.weights.to(at::kDouble), {});
}

}  // namespace
}  // namespace deepseek::kernels
