#include "kernels/sparse_attention/indexer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/sparse_attention/head_rows.h"
#include "kernels/sparse_attention/key_panels.h"
#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/row_weights.h"

namespace deepseek::kernels {
namespace {

using Mode = IndexerOptions::Mode;
constexpr int64_t kQueries = 6;   // of a block: its rows of scores for 32,768 keys are 768 KiB
constexpr float kLargest = std::numeric_limits<float>::max();

struct Shape {
  int64_t batch, queries, heads, keys;
  Shape(const at::Tensor& q, const at::Tensor& k)
      : batch(q.size(0)), queries(q.size(1)), heads(q.size(2)), keys(k.size(1)) {}
  [[nodiscard]] int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
};

KeptScores choose(float* x, int64_t n, const IndexerOptions& o, std::vector<float>& weights) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] < kLargest ? x[i] : kLargest;
  const RowFacts facts = facts_of(x, n);
  if (o.mode == Mode::kTopK) return largest_scores(x, n, std::min(n, static_cast<int64_t>(o.value)), facts);
  const int64_t most = std::min(o.most, n);
  weights.resize(static_cast<size_t>(n));
  const float total = exponentials(x, facts.largest, 1, weights.data(), n);
  const KeptScores kept = o.value < 1 ? scores_of_mass(x, weights.data(), n, std::min(o.least, most), static_cast<float>(o.value) * total, facts, 1)
                                      : KeptScores{facts.smallest, n};
  return kept_count(x, n, kept) <= most ? kept : largest_scores(x, n, most, facts);
}

}  // namespace

void check_indexer(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const IndexerOptions& o) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 3 && weights.dim() == 3, "indexer: q must be [batch, queries, heads, dim], k [batch, keys, dim], weights [batch, queries, heads]; got ",
              q.sizes(), ", ", k.sizes(), ", ", weights.sizes());
  TORCH_CHECK(q.numel() > 0 && k.numel() > 0, "indexer: empty sequences: q ", q.sizes(), ", k ", k.sizes());
  TORCH_CHECK(q.size(0) == k.size(0) && q.size(3) == k.size(2) && weights.sizes() == q.sizes().slice(0, 3), "indexer: q ", q.sizes(), ", k ", k.sizes(), " and weights ",
              weights.sizes(), " do not belong together");
  check_type("indexer", q);
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && weights.scalar_type() == at::kFloat, "indexer: q and k have one type and weights are f32; got ", q.scalar_type(), ", ",
              k.scalar_type(), ", ", weights.scalar_type());
  TORCH_CHECK(q.device() == k.device() && q.device() == weights.device(), "indexer: q, k and weights are on different devices");
  TORCH_CHECK(!o.causal || q.size(1) <= k.size(1), "indexer: ", q.size(1), " causal queries have only ", k.size(1), " keys");
  if (o.mode == Mode::kTopK) {
    TORCH_CHECK(o.value >= 1 && o.value == std::floor(o.value) && o.value < 0x1p31, "indexer: top_k is a whole number from 1, not ", o.value);
  } else {
    TORCH_CHECK(o.value > 0 && o.value <= 1, "indexer: top_p lies above 0, up to 1; not ", o.value);
    TORCH_CHECK(o.least >= 1 && o.least <= o.most, "indexer: from 1 to ", o.most, " keys are kept at least, not ", o.least);
  }
}

at::Tensor select_keys(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& weights_in, const IndexerOptions& o) {
  check_indexer(q_in, k_in, weights_in, o);
  if (!q_in.is_cpu()) return operators::select_keys(q_in, k_in, weights_in, o);
  const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), weights = weights_in.contiguous();
  const Shape s(q, k);
  const int64_t width = std::min(s.keys, o.mode == Mode::kTopK ? static_cast<int64_t>(o.value) : o.most);
  at::Tensor out = at::empty({s.batch, s.queries, width}, q.options().dtype(at::kInt));
  const KeyPanels panels(k);
  at::parallel_for(0, s.batch * s.blocks(), 1, [&](int64_t from, int64_t to) {
    ScoreRows a;
    std::vector<float> tile(static_cast<size_t>(kQueries * s.heads * kPanel)), rows(static_cast<size_t>(kQueries * panels.padded_keys())), mass;
    for (int64_t t = from; t < to; ++t) {
      const int64_t batch = t / s.blocks(), first = from_both_ends(t % s.blocks(), s.blocks()) * kQueries, count = std::min(kQueries, s.queries - first), at = batch * s.queries + first;
      const auto visible = [&](int64_t query) { return o.causal ? s.keys - s.queries + first + query + 1 : s.keys; };
      panels.load(q, at * s.heads, count * s.heads, a);
      for (int64_t p = 0; p * kPanel < visible(count - 1); ++p) {
        panels.multiply(a, count * s.heads, batch, p, kPanel, tile.data(), kPanel);
        for (int64_t query = 0; query < count; ++query) {
          weighted_relu(tile.data() + query * s.heads * kPanel, data_of<float>(weights) + (at + query) * s.heads, s.heads, rows.data() + (query * panels.panels() + p) * kPanel);
        }
      }
      for (int64_t query = 0; query < count; ++query) {
        float* x = rows.data() + query * panels.padded_keys();
        const int64_t n = visible(query);
        int32_t* keys = data_of<int32_t>(out) + (at + query) * width;
        std::fill(keys + kept_keys(x, n, choose(x, n, o, mass), keys), keys + width, -1);
      }
    }
  });
  return out;
}

at::Tensor index_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, bool causal) {
  const at::Tensor each = at::relu(at::matmul(q.to(at::kFloat), k.to(at::kFloat).transpose(1, 2).unsqueeze(1)));  // [batch, queries, heads, keys]
  const at::Tensor scores = at::matmul(weights.unsqueeze(2), each).squeeze(2);
  if (!causal) return scores;
  return scores.masked_fill(~operators::visible(q.size(1), k.size(1), q.device()), -std::numeric_limits<float>::infinity());
}

}  // namespace deepseek::kernels
