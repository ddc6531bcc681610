#include "kernels/sparse_attention/indexed_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/sparse_attention/block_product.h"
#include "kernels/sparse_attention/head_rows.h"
#include "kernels/sparse_attention/named_rows.h"
#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/row_weights.h"

namespace deepseek::kernels {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

struct Shape {
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim, most, width, value_width;  // widths: dims as the products need them
  Shape(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& lists)
      : batch(q.size(0)), heads(q.size(1)), kv_heads(k.size(1)), queries(q.size(2)), keys(k.size(2)), dim(q.size(3)), value_dim(v.size(3)), most(lists.size(2)),
        width(round_up(dim, kProductLanes)), value_width(round_up(value_dim, kProductLanes)) {}
  [[nodiscard]] int64_t group() const { return heads / kv_heads; }
  [[nodiscard]] int64_t columns() const { return round_up(most, kProductLanes); }
};

// The keys that each query names, without -1: where they begin in `all` is [batch * queries + 1].
struct Lists {
  std::vector<int64_t> begin{0};
  std::vector<int32_t> all;
  Lists(const at::Tensor& keys, int64_t limit) {
    const int32_t* x = data_of<int32_t>(keys);
    const int64_t rows = keys.size(0) * keys.size(1), width = keys.size(2);
    begin.reserve(static_cast<size_t>(rows + 1));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = r * width; i < (r + 1) * width; ++i) {
        TORCH_CHECK(x[i] >= -1 && x[i] < limit, "sparse attention: a list names key ", x[i], " of ", limit);
        if (x[i] >= 0) all.push_back(x[i]);
      }
      begin.push_back(static_cast<int64_t>(all.size()));
    }
  }
};

// What one thread needs.
struct Scratch {
  at::Tensor memory;
  float *q, *p, *out, *d = nullptr, *g = nullptr, *dq = nullptr;  // [group, width], [group, columns], [group, value_width]; of a backward pass: as out, p and q
  Scratch(const Shape& s, bool backward) {
    const int64_t of_q = s.group() * s.width, of_p = s.group() * s.columns(), of_out = s.group() * s.value_width;
    memory = aligned_numbers((of_q + of_p + of_out) * (backward ? 2 : 1), at::kFloat);
    q = data_of<float>(memory);
    p = q + of_q;
    out = p + of_p;
    if (!backward) return;
    d = out + of_out;
    g = d + of_out;
    dq = g + of_p;
  }
};

// One query under one key head.
struct Task {
  const int32_t* keys;
  int64_t count, head, query;  // head: of all batches' key heads
};

class Gathered {
 public:
  Gathered(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& lists, double scale)
      : q_(q), k_(k), v_(v), s_(q, k, v, lists), lists_(lists, s_.keys), scale_(static_cast<float>(scale)) {}

 protected:
  [[nodiscard]] Task task(int64_t head, int64_t query) const {
    const auto row = static_cast<size_t>(head / s_.kv_heads * s_.queries + query);
    return {lists_.all.data() + lists_.begin[row], lists_.begin[row + 1] - lists_.begin[row], head, query};
  }

  // The rows (of q's shape) of this task's query heads in f32, and back.
  void load_heads(const at::Tensor& x, const Task& t, int64_t width, float* to) const {
    for (int64_t h = 0; h < s_.group(); ++h) load_rows(x, (t.head * s_.group() + h) * s_.queries + t.query, 1, width, to + h * width);
  }
  void store_heads(const float* from, const Task& t, int64_t width, const at::Tensor& x) const {
    for (int64_t h = 0; h < s_.group(); ++h) store_rows(from + h * width, width, (t.head * s_.group() + h) * s_.queries + t.query, 1, x);
  }

  [[nodiscard]] NamedRows named(const at::Tensor& x, const Task& t) const { return {x, t.head, t.keys, t.count}; }
  [[nodiscard]] HeadRows weights(const float* x) const { return {x, s_.columns(), s_.group()}; }
  [[nodiscard]] HeadRows rows(const float* x, int64_t width) const { return {x, width, s_.group()}; }

  const at::Tensor &q_, &k_, &v_;
  Shape s_;
  Lists lists_;
  float scale_;
};

class Forward : Gathered {
 public:
  using Gathered::Gathered;

  void run(IndexedAttentionResult& result) {
    at::parallel_for(0, s_.batch * s_.kv_heads * s_.queries, 4, [&](int64_t from, int64_t to) {
      Scratch scratch(s_, false);
      for (int64_t i = from; i < to; ++i) one(task(i / s_.queries, i % s_.queries), scratch, result);
    });
  }

 private:
  void one(const Task& t, Scratch& x, IndexedAttentionResult& result) const {
    load_heads(q_, t, s_.width, x.q);
    named_products(named(k_, t), rows(x.q, s_.width), x.p, s_.columns());
    for (int64_t h = 0; h < s_.group(); ++h) {
      float* p = x.p + h * s_.columns();
      const RowFacts facts = t.count > 0 ? facts_of(p, t.count) : RowFacts{kNone, kNone};
      float lse = kNone;
      if (facts.has_nan || facts.largest == std::numeric_limits<float>::infinity()) {
        lse = std::numeric_limits<float>::quiet_NaN();
        std::fill(p, p + t.count, lse);
      } else if (facts.largest == kNone) {
        std::fill(p, p + t.count, 0.0f);
      } else {
        const float sum = kept_exponentials(p, t.count, {}, facts.largest, scale_);
        for (int64_t i = 0; i < t.count; ++i) p[i] /= sum;
        lse = facts.largest * scale_ + std::log(sum);
      }
      data_of<float>(result.log_sum_exp)[(t.head * s_.group() + h) * s_.queries + t.query] = lse;
    }
    named_sums(named(v_, t), weights(x.p), x.out, s_.value_width);
    store_heads(x.out, t, s_.value_width, result.out);
  }
};

// Each part sums the gradients of k and v over its queries in order, then the parts are summed in order: threads change nothing.
class Backward : Gathered {
 public:
  Backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& lists, double scale, const IndexedAttentionResult& result)
      : Gathered(q, k, v, lists, scale), d_out_(d_out), result_(result) {}

  void run(IndexedAttentionGradients& out) {
    const int64_t heads = s_.batch * s_.kv_heads, parts = std::clamp<int64_t>(kGradientParts / s_.kv_heads, 1, s_.queries);
    const int64_t key_size = s_.keys * s_.width, value_size = s_.keys * s_.value_width;
    const at::Tensor dk = aligned_numbers(heads * parts * key_size, at::kFloat).zero_(), dv = aligned_numbers(heads * parts * value_size, at::kFloat).zero_();
    at::parallel_for(0, heads * parts, 1, [&](int64_t from, int64_t to) {
      Scratch scratch(s_, true);
      for (int64_t i = from; i < to; ++i) {
        for (int64_t query = i % parts; query < s_.queries; query += parts) {
          one(task(i / parts, query), scratch, data_of<float>(dk) + i * key_size, data_of<float>(dv) + i * value_size, out.dq);
        }
      }
    });
    store_sum_of_parts(data_of<float>(dk), parts, s_.width, out.dk);
    store_sum_of_parts(data_of<float>(dv), parts, s_.value_width, out.dv);
  }

 private:
  void one(const Task& t, Scratch& x, float* dk, float* dv, const at::Tensor& dq) const {
    load_heads(q_, t, s_.width, x.q);
    load_heads(d_out_, t, s_.value_width, x.d);
    named_products(named(k_, t), rows(x.q, s_.width), x.p, s_.columns());
    named_products(named(v_, t), rows(x.d, s_.value_width), x.g, s_.columns());
    for (int64_t h = 0; h < s_.group(); ++h) row(t, h, x.p + h * s_.columns(), x.g + h * s_.columns());
    add_to_named(t.keys, t.count, weights(x.p), rows(x.d, s_.value_width), s_.value_width, dv);
    add_to_named(t.keys, t.count, weights(x.g), rows(x.q, s_.width), s_.width, dk);
    named_sums(named(k_, t), weights(x.g), x.dq, s_.width);
    store_heads(x.dq, t, s_.width, dq);
  }

  // p: scores become probabilities; g: their gradient becomes that of the scores.
  void row(const Task& t, int64_t h, float* p, float* g) const {
    const float lse = data_of<float>(result_.log_sum_exp)[(t.head * s_.group() + h) * s_.queries + t.query];
    if (!std::isfinite(lse)) {
      const float value = std::isnan(lse) ? lse : 0.0f;
      std::fill(p, p + t.count, value);
      std::fill(g, g + t.count, value);
      return;
    }
    kept_exponentials(p, t.count, {}, lse / scale_, scale_);
    score_gradient(p, sum_of_products(p, g, t.count), scale_, g, t.count);
  }

  const at::Tensor& d_out_;
  const IndexedAttentionResult& result_;
};

// A latent's values are the first columns of its keys: a view, which a copy at every step would make expensive.
at::Tensor with_whole_rows(const at::Tensor& x) { return x.stride(3) == 1 ? x : x.contiguous(); }

}  // namespace

void check_indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, std::optional<double> scale) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && keys.dim() == 3, "sparse attention: q must be [batch, heads, queries, dim], k and v [batch, kv_heads, keys, dim], "
              "lists of keys [batch, queries, count]; got ", q.sizes(), ", ", k.sizes(), ", ", v.sizes(), ", ", keys.sizes());
  TORCH_CHECK(q.numel() > 0 && k.numel() > 0 && v.numel() > 0 && keys.numel() > 0, "sparse attention: empty sequences: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes(),
              ", lists ", keys.sizes());
  TORCH_CHECK(k.sizes().slice(0, 3) == v.sizes().slice(0, 3) && q.size(0) == k.size(0) && q.size(3) == k.size(3) && q.size(1) % k.size(1) == 0, "sparse attention: q ",
              q.sizes(), ", k ", k.sizes(), " and v ", v.sizes(), " do not belong together");
  TORCH_CHECK(keys.size(0) == q.size(0) && keys.size(1) == q.size(2), "sparse attention: lists ", keys.sizes(), " do not fit q ", q.sizes());
  check_type("sparse attention", q);
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(), "sparse attention: q, k and v have different types: ", q.scalar_type(), ", ",
              k.scalar_type(), ", ", v.scalar_type());
  TORCH_CHECK(keys.scalar_type() == at::kInt, "sparse attention: lists of keys are int32, not ", keys.scalar_type());
  TORCH_CHECK(q.device() == k.device() && q.device() == v.device() && q.device() == keys.device(), "sparse attention: q, k, v and the lists are on different devices");
  TORCH_CHECK(!scale || *scale > 0, "sparse attention: the scale must be above 0, not ", scale.value_or(0));
}

IndexedAttentionResult indexed_attention(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in, const at::Tensor& keys, std::optional<double> scale) {
  check_indexed_attention(q_in, k_in, v_in, keys, scale);
  if (!q_in.is_cpu()) return operators::indexed_attention(q_in, k_in, v_in, keys, scale_of(scale, q_in.size(3)));
  const at::Tensor q = q_in.contiguous(), k = with_whole_rows(k_in), v = with_whole_rows(v_in), lists = keys.contiguous();
  IndexedAttentionResult result{at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options()), at::empty(q.sizes().slice(0, 3), q.options().dtype(at::kFloat))};
  Forward(q, k, v, lists, scale_of(scale, q.size(3))).run(result);
  return result;
}

IndexedAttentionGradients indexed_attention_backward(const at::Tensor& d_out, const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in, const at::Tensor& keys,
                                                     const IndexedAttentionResult& result, std::optional<double> scale) {
  check_indexed_attention(q_in, k_in, v_in, keys, scale);
  TORCH_CHECK(d_out.sizes() == result.out.sizes() && d_out.size(1) == q_in.size(1) && d_out.size(2) == q_in.size(2) && d_out.size(3) == v_in.size(3),
              "sparse attention: a gradient of ", d_out.sizes(), " does not fit q ", q_in.sizes(), " and v ", v_in.sizes());
  if (!q_in.is_cpu()) return operators::indexed_attention_backward(d_out, q_in, k_in, v_in, keys, result, scale_of(scale, q_in.size(3)));
  const at::Tensor q = q_in.contiguous(), k = with_whole_rows(k_in), v = with_whole_rows(v_in), lists = keys.contiguous(), d = d_out.to(q.scalar_type()).contiguous();
  IndexedAttentionGradients out{at::empty_like(q), at::empty(k.sizes(), k.options()), at::empty(v.sizes(), v.options())};
  Backward(d, q, k, v, lists, scale_of(scale, q.size(3)), result).run(out);
  return out;
}

}  // namespace deepseek::kernels
