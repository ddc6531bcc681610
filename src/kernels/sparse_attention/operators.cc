#include "kernels/sparse_attention/operators.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/xlogy.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/sparse_attention/head_rows.h"

namespace deepseek::kernels::operators {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();
constexpr int64_t kElements = int64_t{1} << 26;  // of the largest intermediate: 256 MiB

// Calls body(first, count) over `queries` in blocks whose intermediates have at most kElements.
template <typename Body>
void in_blocks(int64_t queries, int64_t elements_per_query, const Body& body) {
  const int64_t step = std::clamp<int64_t>(kElements / std::max<int64_t>(elements_per_query, 1), 1, queries);
  for (int64_t first = 0; first < queries; first += step) body(first, std::min(step, queries - first));
}

at::Tensor spread_heads(const at::Tensor& x, int64_t heads) {
  const at::Tensor f = x.to(at::kFloat);
  return x.size(1) == heads ? f : f.repeat_interleave(heads / x.size(1), 1);
}
// The reverse for gradients: [batch, heads, ...] -> [batch, kv_heads, ...].
at::Tensor gathered_heads(const at::Tensor& x, int64_t kv_heads) { return x.unflatten(1, {kv_heads, x.size(1) / kv_heads}).sum(2); }

at::Tensor ranks(int64_t keys, const at::Tensor& like) { return at::arange(keys, like.options().dtype(at::kLong)); }

// How many of the largest each row of `sorted` scores (descending) keeps for the mass: [..., 1].
at::Tensor count_of_mass(const at::Tensor& sorted, double scale, double mass) {
  const at::Tensor weights = ((sorted - sorted.narrow(-1, 0, 1)) * scale).exp().nan_to_num(0), before = weights.cumsum(-1) - weights;
  return (before < weights.sum(-1, true) * mass).sum(-1, true);
}

// The rows of x [batch, kv_heads, keys, dim] that lists [batch, queries, count] name, 0 for -1: [batch, kv_heads, queries, count, dim] f32.
at::Tensor named_rows(const at::Tensor& x, const at::Tensor& lists) {
  const at::Tensor at = lists.clamp_min(0).to(at::kLong).flatten(1).unsqueeze(1).unsqueeze(-1).expand({x.size(0), x.size(1), lists.size(1) * lists.size(2), x.size(3)});
  return x.gather(2, at).to(at::kFloat).unflatten(2, {lists.size(1), lists.size(2)});
}
void add_to_rows(at::Tensor& sums, const at::Tensor& lists, const at::Tensor& values) {
  const at::Tensor at = lists.clamp_min(0).to(at::kLong).flatten(1).unsqueeze(1).unsqueeze(-1).expand({sums.size(0), sums.size(1), lists.size(1) * lists.size(2), sums.size(3)});
  sums.scatter_add_(2, at, values.flatten(2, 3));
}

// q rows of a block as [batch, kv_heads, queries, group, dim] f32.
at::Tensor by_query(const at::Tensor& q, int64_t kv_heads, int64_t first, int64_t count) {
  return q.narrow(2, first, count).to(at::kFloat).unflatten(1, {kv_heads, q.size(1) / kv_heads}).transpose(2, 3);
}
at::Tensor by_head(const at::Tensor& x) { return x.transpose(2, 3).flatten(1, 2); }

at::Tensor named_scores(const at::Tensor& q, const at::Tensor& rows, const at::Tensor& lists, double scale) {
  const at::Tensor none = (lists < 0).unsqueeze(1).unsqueeze(3);
  return (at::matmul(q, rows.transpose(-2, -1)) * scale).masked_fill(none, kNone);
}

struct Kept {
  at::Tensor scores, keep, row_is_nan;
};
// Unscaled scores of a block [batch, heads, count, keys] and which of them are kept.
Kept kept_scores(const at::Tensor& q, const at::Tensor& k, const DynamicAttentionOptions& o, double scale, int64_t first, int64_t count, DynamicAttentionRows* rows) {
  using Mode = DynamicAttentionOptions::Mode;
  const int64_t queries = q.size(2), keys = k.size(2);
  at::Tensor x = at::matmul(q.narrow(2, first, count).to(at::kFloat), k.transpose(-2, -1));
  at::Tensor seen = (ranks(keys, x) >= 0).expand({count, keys});
  if (o.causal) seen = visible(queries, keys, q.device()).narrow(0, first, count);
  const at::Tensor bad = ((x.isnan() | (x == -kNone)) & seen).any(-1, true);
  x = x.masked_fill(~seen, kNone).nan_to_num(0, std::numeric_limits<double>::max(), kNone);
  const at::Tensor sorted = std::get<0>(at::sort(x, true, -1, true)), seen_count = seen.sum(-1, true);
  at::Tensor wanted;
  if (o.mode == Mode::kRatio) wanted = (seen_count.to(at::kDouble) * o.value).floor().clamp_min(1).to(at::kLong);
  else if (o.mode == Mode::kTopK) wanted = seen_count.clamp_max(static_cast<int64_t>(o.value));
  else wanted = (o.value >= 1 ? seen_count : count_of_mass(sorted, scale, o.value)).clamp_min(o.least);
  wanted = at::minimum(wanted, seen_count).expand({x.size(0), x.size(1), count, 1});
  const at::Tensor threshold = sorted.gather(-1, wanted - 1), above = x > threshold, equal = (x == threshold) & seen;
  const at::Tensor keep_equal = equal & (equal.cumsum(-1) <= wanted - above.sum(-1, true)), keep = (above & seen) | keep_equal;
  if (rows != nullptr) {
    rows->threshold.narrow(2, first, count).copy_(threshold.squeeze(-1));
    rows->equal_before.narrow(2, first, count).copy_(((ranks(keys, x) + 1) * keep_equal).amax(-1));
  }
  return {x, keep, bad};
}

}  // namespace

at::Tensor visible(int64_t queries, int64_t keys, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  return at::arange(keys, options).unsqueeze(0) <= at::arange(keys - queries, keys, options).unsqueeze(1);
}

at::Tensor select_keys(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const IndexerOptions& o) {
  const int64_t queries = q.size(1), keys = k.size(1);
  const bool by_count = o.mode == IndexerOptions::Mode::kTopK;
  const int64_t width = std::min(keys, by_count ? static_cast<int64_t>(o.value) : o.most);
  at::Tensor out = at::full({q.size(0), queries, width + 1}, -1, q.options().dtype(at::kInt));  // a last column for what is not chosen
  const at::Tensor index = at::arange(keys, out.options());
  bool fused = false;
#ifdef DEEPSEEK_GPU_KERNELS
  fused = gpu_scores(q);
#endif
  in_blocks(queries, q.size(0) * keys * (fused ? 4 : q.size(2)), [&](int64_t first, int64_t count) {
    const auto own = [&](const at::Tensor& rows) { return rows.narrow(1, first, count); };
    at::Tensor seen = (index >= 0).expand({count, keys}), x;
    if (o.causal) seen = visible(queries, keys, q.device()).narrow(0, first, count);
#ifdef DEEPSEEK_GPU_KERNELS
    if (fused) x = gpu_index_scores(own(q), k, own(weights), o.causal, keys - queries + first + 1);
#endif
    if (!fused) x = index_scores(own(q), k, own(weights), false);
    const double largest = std::numeric_limits<float>::max();
    x = x.nan_to_num(largest, largest, kNone).masked_fill(~seen, kNone);
    const at::Tensor sorted = std::get<0>(at::topk(x, by_count || o.value >= 1 ? width : keys, -1, true, true)), all = seen.sum(-1, true).unsqueeze(0).expand({x.size(0), count, 1});
    at::Tensor wanted = all.clamp_max(width);
    if (!by_count && o.value < 1) wanted = at::minimum(wanted, count_of_mass(sorted, 1, o.value).clamp_min(o.least));
    const at::Tensor threshold = sorted.gather(-1, wanted - 1), above = x > threshold, equal = (x == threshold) & seen;
    const at::Tensor keep = above | (equal & (equal.cumsum(-1, at::kInt) <= wanted - above.sum(-1, true)));
    const at::Tensor place = at::where(keep, keep.cumsum(-1, at::kInt) - 1, width).to(at::kLong);
    own(out).scatter_(2, place, index.expand(place.sizes()));
  });
  return out.narrow(2, 0, width).contiguous();
}

IndexedAttentionResult indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, double scale) {
#ifdef DEEPSEEK_GPU_KERNELS
  if (gpu_attends(q, k, v)) return gpu_indexed_attention(q, k, v, keys, scale);
#endif
  const int64_t queries = q.size(2), kv_heads = k.size(1);
  IndexedAttentionResult result{at::empty({q.size(0), q.size(1), queries, v.size(3)}, q.options()), at::empty(q.sizes().slice(0, 3), q.options().dtype(at::kFloat))};
  in_blocks(queries, q.size(0) * kv_heads * keys.size(2) * (k.size(3) + q.size(1) / kv_heads), [&](int64_t first, int64_t count) {
    const at::Tensor lists = keys.narrow(1, first, count);
    const at::Tensor scores = named_scores(by_query(q, kv_heads, first, count), named_rows(k, lists), lists, scale);
    const at::Tensor lse = at::logsumexp(scores, at::IntArrayRef{-1}, true);
    const at::Tensor p = at::where(lse == kNone, 0.0, (scores - lse).exp());
    result.out.narrow(2, first, count).copy_(by_head(at::matmul(p, named_rows(v, lists))));
    result.log_sum_exp.narrow(2, first, count).copy_(by_head(lse).squeeze(-1));
  });
  return result;
}

IndexedAttentionGradients indexed_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys,
                                                     const IndexedAttentionResult& result, double scale) {
  const int64_t queries = q.size(2), kv_heads = k.size(1);
  at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k, at::kFloat), dv = at::zeros_like(v, at::kFloat);
  in_blocks(queries, 2 * q.size(0) * kv_heads * keys.size(2) * (k.size(3) + q.size(1) / kv_heads), [&](int64_t first, int64_t count) {
    const at::Tensor lists = keys.narrow(1, first, count), rows = named_rows(k, lists);
    const at::Tensor block = by_query(q, kv_heads, first, count), d = by_query(d_out, kv_heads, first, count);
    const at::Tensor lse = by_query(result.log_sum_exp.unsqueeze(-1), kv_heads, first, count);
    const at::Tensor p = at::where(lse == kNone, 0.0, (named_scores(block, rows, lists, scale) - lse).exp());
    const at::Tensor dp = at::matmul(d, named_rows(v, lists).transpose(-2, -1));
    const at::Tensor ds = p * (dp - (p * dp).sum(-1, true)) * scale;
    dq.narrow(2, first, count).copy_(by_head(at::matmul(ds, rows)));
    add_to_rows(dk, lists, at::matmul(ds.transpose(-2, -1), block));
    add_to_rows(dv, lists, at::matmul(p.transpose(-2, -1), d));
  });
  return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

DynamicAttentionResult dynamic_sparse_attention(const at::Tensor& q, const at::Tensor& k_in, const at::Tensor& v_in, const DynamicAttentionOptions& o) {
  const at::Tensor k = spread_heads(k_in, q.size(1)), v = spread_heads(v_in, q.size(1));
  const auto f32 = q.options().dtype(at::kFloat);
  const auto rows = q.sizes().slice(0, 3);
  DynamicAttentionResult result{at::empty(q.sizes(), q.options()), {at::empty(rows, f32), at::empty(rows, f32), at::empty(rows, f32.dtype(at::kInt))}};
  const double scale = scale_of(o.scale, q.size(3));
  in_blocks(q.size(2), 2 * q.size(0) * q.size(1) * k.size(2), [&](int64_t first, int64_t count) {
    const Kept kept = kept_scores(q, k, o, scale, first, count, &result.rows);
    const at::Tensor x = (kept.scores * scale).masked_fill(~kept.keep, kNone);
    const at::Tensor lse = at::logsumexp(x, at::IntArrayRef{-1}, true).masked_fill(kept.row_is_nan, std::nan(""));
    const at::Tensor p = at::where(lse == kNone, 0.0, (x - lse).exp());
    result.out.narrow(2, first, count).copy_(at::matmul(p, v));
    result.rows.log_sum_exp.narrow(2, first, count).copy_(lse.squeeze(-1));
  });
  return result;
}

DynamicAttentionGradients dynamic_sparse_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k_in, const at::Tensor& v_in,
                                                            const DynamicAttentionRows& rows, const DynamicAttentionOptions& o) {
  const at::Tensor k = spread_heads(k_in, q.size(1)), v = spread_heads(v_in, q.size(1));
  at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
  const double scale = scale_of(o.scale, q.size(3));
  in_blocks(q.size(2), 4 * q.size(0) * q.size(1) * k.size(2), [&](int64_t first, int64_t count) {
    const auto of = [&](const at::Tensor& x) { return x.narrow(2, first, count); };
    const at::Tensor block = of(q).to(at::kFloat), d = of(d_out).to(at::kFloat), lse = of(rows.log_sum_exp).unsqueeze(-1), threshold = of(rows.threshold).unsqueeze(-1);
    at::Tensor x = at::matmul(block, k.transpose(-2, -1));
    at::Tensor keep = (x > threshold) | ((x == threshold) & (ranks(k.size(2), x) < of(rows.equal_before).unsqueeze(-1)));
    if (o.causal) keep = keep & visible(q.size(2), k.size(2), q.device()).narrow(0, first, count);
    const at::Tensor p = at::where((lse == kNone) | (~keep & ~lse.isnan()), 0.0, (x * scale - lse).exp());
    const at::Tensor dp = at::matmul(d, v.transpose(-2, -1)), ds = p * (dp - (p * dp).sum(-1, true)) * scale;
    of(dq).copy_(at::matmul(ds, k));
    dk += at::matmul(ds.transpose(-2, -1), block);
    dv += at::matmul(p.transpose(-2, -1), d);
  });
  return {dq, gathered_heads(dk, k_in.size(1)).to(k_in.scalar_type()), gathered_heads(dv, v_in.size(1)).to(v_in.scalar_type())};
}

IndexerLossResult indexer_loss(const IndexerLossInputs& in, const IndexerLossOptions& o) {
  const int64_t batch = in.q.size(0), queries = in.q.size(2), keys = in.k.size(2), heads = in.q.size(1);
  const auto f32 = in.index_q.options();
  IndexerLossResult result{.loss = at::empty({batch, queries}, f32)};
  if (o.recall_of > 0) result.kept = at::empty({batch, queries}, f32), result.most = at::empty({batch, queries}, f32);
  if (o.gradients) result.d_index_q = at::empty_like(in.index_q), result.d_index_k = at::zeros_like(in.index_k), result.d_index_weights = at::empty_like(in.index_weights);
  const at::Tensor k = spread_heads(in.k, heads).transpose(-2, -1), index_k = in.index_k.unsqueeze(1);
  in_blocks(queries, batch * keys * (2 * heads + 3 * in.index_q.size(2)), [&](int64_t first, int64_t count) {
    at::Tensor seen = visible(queries, keys, in.q.device()).narrow(0, first, count).unsqueeze(0);
    if (in.keys.defined()) {
      const at::Tensor lists = in.keys.narrow(1, first, count), named = at::zeros({batch, count, keys + 1}, f32.dtype(at::kBool));
      named.scatter_(2, at::where(lists < 0, keys, lists).to(at::kLong), true);
      seen = seen & named.narrow(2, 0, keys);
    }
    const at::Tensor scores = (at::matmul(in.q.narrow(2, first, count).to(at::kFloat), k) * o.scale).masked_fill(~seen.unsqueeze(1), kNone);
    const at::Tensor p = at::softmax(scores, -1).mean(1), index_q = in.index_q.narrow(1, first, count), weights = in.index_weights.narrow(1, first, count).unsqueeze(-1);
    const at::Tensor each = at::matmul(index_q, index_k.transpose(-2, -1));  // [batch, count, index_heads, keys]
    const at::Tensor x = (each.relu() * weights).sum(2).masked_fill(~seen, kNone), log = at::log_softmax(x, -1);
    result.loss.narrow(1, first, count).copy_((at::xlogy(p, p) - at::where(p == 0, 0.0, p * log)).sum(-1));
    if (o.recall_of > 0) {
      const auto mass_on_largest = [&](const at::Tensor& of) {
        const at::Tensor best = std::get<1>(at::sort(of, true, -1, true)).narrow(-1, 0, std::min(o.recall_of, keys));
        return p.gather(-1, best).sum(-1);
      };
      result.kept.narrow(1, first, count).copy_(mass_on_largest(x));
      result.most.narrow(1, first, count).copy_(mass_on_largest(p));
    }
    if (!o.gradients) return;
    const at::Tensor d = (log.exp() - p).unsqueeze(2), d_each = at::where(each > 0, d * weights, 0.0);
    result.d_index_weights.narrow(1, first, count).copy_((d * each.relu()).sum(-1));
    result.d_index_q.narrow(1, first, count).copy_(at::matmul(d_each, index_k));
    result.d_index_k += at::matmul(d_each.flatten(1, 2).transpose(-2, -1), index_q.flatten(1, 2));
  });
  return result;
}

}  // namespace deepseek::kernels::operators
