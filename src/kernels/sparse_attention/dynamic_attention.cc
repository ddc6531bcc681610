#include "kernels/sparse_attention/dynamic_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "kernels/bf16_product/bf16_product.h"
#include "kernels/elementwise/tensor_rows.h"
#include "kernels/sparse_attention/block_product.h"
#include "kernels/sparse_attention/head_rows.h"
#include "kernels/sparse_attention/key_lists.h"
#include "kernels/sparse_attention/key_panels.h"
#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/row_weights.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kQueries = 48;  // of a tile: a multiple of the product's 6 rows; with 2,048 keys 384 KiB, which the second cache holds

struct Shape {
  int64_t batch, heads, kv_heads, queries, keys, dim, width;  // width: dim as the products need it
  explicit Shape(const at::Tensor& q, const at::Tensor& k)
      : batch(q.size(0)), heads(q.size(1)), kv_heads(k.size(1)), queries(q.size(2)), keys(k.size(2)), dim(q.size(3)), width(round_up(dim, kPairDepth)) {}
  [[nodiscard]] int64_t group() const { return heads / kv_heads; }
  [[nodiscard]] int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
  [[nodiscard]] int64_t padded_keys() const { return round_up(keys, kPanel); }
  [[nodiscard]] int64_t pair_rows() const { return round_up(keys, kPairDepth); }
  [[nodiscard]] int64_t weight_row() const { return padded_keys() + kPairDepth; }  // of bf16 weights: rows 4 KiB apart would share sets of the caches
};

// All rows of x [batch, kv_heads, keys, dim] bf16 in pairs: [batch * kv_heads][width / 16][pair_rows / 2][16][2], zeros behind the last.
std::vector<uint16_t> pairs_of(const at::Tensor& x, const Shape& s) {
  const int64_t heads = s.batch * s.kv_heads, size = s.pair_rows() * s.width;
  std::vector<uint16_t> pairs(static_cast<size_t>(heads * size));
  at::parallel_for(0, heads, 1, [&](int64_t from, int64_t to) {
    std::vector<uint16_t> rows(static_cast<size_t>(s.keys * s.width));
    for (int64_t h = from; h < to; ++h) {
      copy_rows(x, h * s.keys, s.keys, s.width, rows.data());
      pair_rows(rows.data(), s.keys, s.width, s.pair_rows(), pairs.data() + h * size);
    }
  });
  return pairs;
}

// All rows of x [batch, kv_heads, keys, dim] in f32: [batch * kv_heads * keys, width].
std::vector<float> plain_copy(const at::Tensor& x, const Shape& s) {
  const int64_t rows = s.batch * s.kv_heads * s.keys;
  std::vector<float> copy(static_cast<size_t>(rows * s.width));
  at::parallel_for(0, rows, 256, [&](int64_t from, int64_t to) { load_rows(x, from, to - from, s.width, copy.data() + from * s.width); });
  return copy;
}

// A block of queries of one head.
struct Tile {
  int64_t head, first, rows, visible, columns;  // head: of all batches; visible: keys that its last query sees; columns: those computed
  Tile(const Shape& s, const DynamicAttentionOptions& o, int64_t head_index, int64_t block)
      : head(head_index), first(block * kQueries), rows(std::min(kQueries, s.queries - first)),
        visible(o.causal ? s.keys - s.queries + first + rows : s.keys), columns(round_up(visible, kProductLanes)) {}
  [[nodiscard]] int64_t seen_by(int64_t row, bool causal) const { return causal ? visible - (rows - 1 - row) : visible; }
};

// tile [rows, padded keys] = rows times the keys of one head.
void scores(const ScoreRows& rows, const KeyPanels& keys, int64_t kv, const Tile& tile, float* out) {
  keys.multiply(rows, tile.rows, kv, 0, tile.columns, out, keys.padded_keys());
}

// out [rows, width] = weights [rows, padded keys] times rows of one key head.
void weighted(const float* weights, const float* rows, const Shape& s, const Tile& tile, float* out) {
  multiply(BlockProduct{.a = weights, .a_row = s.padded_keys(), .b = rows, .b_row = s.width, .c = out, .c_row = s.width, .rows = tile.rows, .depth = tile.visible,
            .columns = s.width});
}

// gradient [keys, width] += weights transposed times a [rows, width].
void gather(const float* weights, const float* a, const Shape& s, const Tile& tile, float* gradient) {
  multiply(BlockProduct{.a = weights, .a_row = 1, .a_depth = s.padded_keys(), .b = a, .b_row = s.width, .c = gradient, .c_row = s.width, .rows = tile.visible,
            .depth = tile.rows, .columns = s.width, .add = true});
}

KeptScores choose(const float* x, int64_t n, const RowFacts& facts, const DynamicAttentionOptions& o, float scale, std::vector<float>& weights) {
  using Mode = DynamicAttentionOptions::Mode;
  if (o.mode != Mode::kTopP) {
    const double wanted = o.mode == Mode::kRatio ? static_cast<double>(n) * o.value : o.value;
    return largest_scores(x, n, std::clamp<int64_t>(static_cast<int64_t>(wanted), 1, n), facts);
  }
  if (o.value >= 1) return {facts.smallest, n};
  weights.resize(static_cast<size_t>(n));
  const float total = exponentials(x, facts.largest, scale, weights.data(), n);
  return scores_of_mass(x, weights.data(), n, std::min(o.least, n), static_cast<float>(o.value) * total, facts, scale);
}

// How the values of kept keys are summed: those of a list, or of all keys with weights of 0 by f32 or bf16 products.
enum class Sums { kListed, kF32, kBf16 };

// By what was measured on a Zen 4: a listed key takes 1.3 to 1.9 ns a thread and row of 64 floats, one of all 1.2 in f32 and 0.6 in bf16; tiles by the limits of
// AMX. A mass is taken for a quarter of the keys. Only shapes decide, so that no row depends on another.
Sums sums_that_pay(const Shape& s, const DynamicAttentionOptions& o, bool bf16) {
  using Mode = DynamicAttentionOptions::Mode;
  const double share = o.mode == Mode::kRatio ? o.value : o.mode == Mode::kTopK ? o.value / static_cast<double>(s.keys) : o.value < 1 ? 0.25 : 1.0;
  if (share <= (!bf16 ? 0.6 : bf16_tiles_pay() ? 0.1 : 0.3)) return Sums::kListed;
  return bf16 ? Sums::kBf16 : Sums::kF32;
}

class Forward {
 public:
  Forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionOptions& o, DynamicAttentionResult& result)
      : q_(q), s_(q, k), o_(o), scale_(static_cast<float>(scale_of(o.scale, s_.dim))), keys_(k), sums_(sums_that_pay(s_, o, keys_.bf16())), result_(result) {
    if (sums_ == Sums::kListed) listed_.emplace(v, s_.width);
    else if (sums_ == Sums::kF32) values_ = plain_copy(v, s_);
    else value_pairs_ = pairs_of(v, s_);
  }

  void run() {
    const int64_t blocks = s_.blocks();
    at::parallel_for(0, s_.batch * s_.heads * blocks, 1, [&](int64_t from, int64_t to) {
      const at::Tensor scores = aligned_numbers(kQueries * s_.padded_keys(), at::kFloat), out = aligned_numbers(kQueries * s_.width, at::kFloat);
      Buffers x{.scores = data_of<float>(scores), .out = data_of<float>(out), .lists = KeyLists(sums_ == Sums::kListed ? kQueries : 0, s_.keys)};
      if (sums_ == Sums::kBf16) x.rounded.resize(static_cast<size_t>(kQueries * s_.weight_row()));
      for (int64_t t = from; t < to; ++t) one({s_, o_, t / blocks, from_both_ends(t % blocks, blocks)}, x);
    });
  }

 private:
  struct Buffers {
    float *scores, *out;
    KeyLists lists;
    ScoreRows q = {};
    std::vector<float> mass = {};
    std::vector<uint16_t> rounded = {};  // weights of bf16 values, [rows][weight_row]
  };

  void one(const Tile& tile, Buffers& x) {
    const int64_t kv = tile.head / s_.group(), at = tile.head * s_.queries + tile.first;
    keys_.load(q_, at, tile.rows, x.q);
    scores(x.q, keys_, kv, tile, x.scores);
    float factor[kQueries];
    for (int64_t r = 0; r < tile.rows; ++r) factor[r] = row(r, tile, at + r, x);
    if (sums_ == Sums::kListed) {
      x.lists.multiply(x.scores, s_.padded_keys(), tile.rows, tile.visible, *listed_, kv, x.out);
    } else if (sums_ == Sums::kF32) {
      weighted(x.scores, values_.data() + kv * s_.keys * s_.width, s_, tile, x.out);
    } else {
      multiply(Bf16Product{.a = x.rounded.data(), .a_row = s_.weight_row(), .b = value_pairs_.data() + kv * s_.pair_rows() * s_.width, .b_block = s_.pair_rows() * 16,
                           .c = x.out, .c_row = s_.width, .rows = tile.rows, .depth = round_up(tile.visible, kPairDepth), .columns = s_.width});
    }
    for (int64_t r = 0; r < tile.rows; ++r) {
      for (int64_t d = 0; d < s_.width; ++d) x.out[r * s_.width + d] = factor[r] == 0 ? 0 : x.out[r * s_.width + d] * factor[r];
    }
    store_rows(x.out, s_.width, at, tile.rows, result_.out);
  }

  // Scores of row r become weights; returns what the weighted values are to be multiplied with.
  float row(int64_t r, const Tile& tile, int64_t index, Buffers& buffers) {
    float* x = buffers.scores + r * s_.padded_keys();
    const int64_t n = tile.seen_by(r, o_.causal);
    const RowFacts facts = facts_of(x, n);
    KeptScores kept;
    float lse = std::numeric_limits<float>::quiet_NaN(), factor = lse;
    if (facts.has_nan || facts.largest == std::numeric_limits<float>::infinity()) {
      clear(r, 0, tile, buffers);
    } else if (facts.largest == -std::numeric_limits<float>::infinity()) {
      clear(r, 0, tile, buffers);
      lse = facts.largest;
      factor = 0;
    } else {
      kept = choose(x, n, facts, o_, scale_, buffers.mass);
      const float sum = weigh(r, n, tile, kept, facts.largest, buffers);
      lse = facts.largest * scale_ + std::log(sum);
      factor = 1 / sum;
    }
    data_of<float>(result_.rows.log_sum_exp)[index] = lse;
    data_of<float>(result_.rows.threshold)[index] = kept.threshold;
    data_of<int32_t>(result_.rows.equal_before)[index] = static_cast<int32_t>(kept.equal_before);
    return factor;
  }

  float weigh(int64_t r, int64_t n, const Tile& tile, const KeptScores& kept, float largest, Buffers& buffers) const {
    float* x = buffers.scores + r * s_.padded_keys();
    if (sums_ == Sums::kListed) return buffers.lists.pack(r, x, n, kept, largest, scale_);
    clear(r, n, tile, buffers);
    return sums_ == Sums::kF32 ? kept_exponentials(x, n, kept, largest, scale_) : kept_exponentials(x, rounded(r, buffers), n, kept, largest, scale_);
  }

  // No weights from key `from` on.
  void clear(int64_t r, int64_t from, const Tile& tile, Buffers& buffers) const {
    if (sums_ == Sums::kListed) buffers.lists.clear(r);
    else if (sums_ == Sums::kF32) std::fill(buffers.scores + r * s_.padded_keys() + from, buffers.scores + r * s_.padded_keys() + tile.columns, 0.0f);
    else std::fill(rounded(r, buffers) + from, rounded(r, buffers) + round_up(tile.visible, kPairDepth), uint16_t{0});
  }

  uint16_t* rounded(int64_t r, Buffers& buffers) const { return buffers.rounded.data() + r * s_.weight_row(); }

  const at::Tensor& q_;
  Shape s_;
  const DynamicAttentionOptions& o_;
  float scale_;
  KeyPanels keys_;
  Sums sums_;
  std::optional<ListedRows> listed_;  // the values, as sums_ needs them
  std::vector<float> values_;
  std::vector<uint16_t> value_pairs_;
  DynamicAttentionResult& result_;
};

struct Scratch {
  ScoreRows q, d;
  std::vector<float> p, g, dq;
  explicit Scratch(const Shape& s) : p(static_cast<size_t>(kQueries * s.padded_keys())), g(p.size()), dq(static_cast<size_t>(kQueries * s.width)) {}
};

// Each part sums the gradients of k and v over its blocks in order, then the parts are summed in order: threads change nothing.
class Backward {
 public:
  Backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionRows& rows,
           const DynamicAttentionOptions& o)
      : d_out_(d_out), q_(q), s_(q, k), rows_(rows), o_(o), scale_(static_cast<float>(scale_of(o.scale, s_.dim))), key_panels_(k), value_panels_(v),
        keys_(plain_copy(k, s_)) {}

  void run(DynamicAttentionGradients& out) {
    const int64_t heads = s_.batch * s_.kv_heads, parts = std::clamp<int64_t>(kGradientParts / s_.kv_heads, 1, s_.group() * s_.blocks()), size = s_.keys * s_.width;
    std::vector<float> dk(static_cast<size_t>(heads * parts * size)), dv(dk.size());
    at::parallel_for(0, heads * parts, 1, [&](int64_t from, int64_t to) {
      Scratch scratch(s_);
      for (int64_t t = from; t < to; ++t) {
        for (int64_t b = t % parts; b < s_.group() * s_.blocks(); b += parts) {
          const Tile tile(s_, o_, t / parts * s_.group() + b / s_.blocks(), b % s_.blocks());
          one(tile, t / parts, scratch, dk.data() + t * size, dv.data() + t * size, out.dq);
        }
      }
    });
    store_sum_of_parts(dk.data(), parts, s_.width, out.dk);
    store_sum_of_parts(dv.data(), parts, s_.width, out.dv);
  }

 private:
  void one(const Tile& tile, int64_t kv, Scratch& x, float* dk, float* dv, const at::Tensor& dq) {
    const int64_t at = tile.head * s_.queries + tile.first, stride = s_.padded_keys();
    key_panels_.load(q_, at, tile.rows, x.q);
    value_panels_.load(d_out_, at, tile.rows, x.d);
    scores(x.q, key_panels_, kv, tile, x.p.data());
    scores(x.d, value_panels_, kv, tile, x.g.data());
    for (int64_t r = 0; r < tile.rows; ++r) row(x.p.data() + r * stride, x.g.data() + r * stride, tile.seen_by(r, o_.causal), tile.columns, at + r);
    gather(x.p.data(), x.d.f32.data(), s_, tile, dv);
    gather(x.g.data(), x.q.f32.data(), s_, tile, dk);
    weighted(x.g.data(), keys_.data() + kv * s_.keys * s_.width, s_, tile, x.dq.data());
    store_rows(x.dq.data(), s_.width, at, tile.rows, dq);
  }

  // p: scores become probabilities; g: their gradient becomes that of the scores.
  void row(float* p, float* g, int64_t n, int64_t columns, int64_t index) const {
    const float lse = data_of<float>(rows_.log_sum_exp)[index];
    if (!std::isfinite(lse)) {
      const float value = std::isnan(lse) ? lse : 0.0f;
      std::fill(p, p + n, value);
      std::fill(g, g + n, value);
    } else {
      const KeptScores kept{data_of<float>(rows_.threshold)[index], data_of<int32_t>(rows_.equal_before)[index]};
      kept_exponentials(p, n, kept, lse / scale_, scale_);
      score_gradient(p, sum_of_products(p, g, n), scale_, g, n);
    }
    std::fill(p + n, p + columns, 0.0f);
    std::fill(g + n, g + columns, 0.0f);
  }

  const at::Tensor &d_out_, &q_;
  Shape s_;
  const DynamicAttentionRows& rows_;
  const DynamicAttentionOptions& o_;
  float scale_;
  KeyPanels key_panels_, value_panels_;
  std::vector<float> keys_;
};

}  // namespace

DynamicAttentionOptions::Mode dynamic_attention_mode(std::string_view name) {
  using Mode = DynamicAttentionOptions::Mode;
  if (name == "ratio") return Mode::kRatio;
  if (name == "top_k") return Mode::kTopK;
  TORCH_CHECK(name == "top_p", "sparse attention: mode '", name, "' is unknown; use ratio, top_k or top_p");
  return Mode::kTopP;
}

void check_dynamic_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionOptions& o) {
  using Mode = DynamicAttentionOptions::Mode;
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes(), "sparse attention: q must be [batch, heads, queries, dim], k and v [batch, kv_heads, keys, dim]; got ",
              q.sizes(), ", ", k.sizes(), ", ", v.sizes());
  TORCH_CHECK(q.numel() > 0 && k.numel() > 0, "sparse attention: empty sequences: q ", q.sizes(), ", k ", k.sizes());
  TORCH_CHECK(q.size(0) == k.size(0) && q.size(3) == k.size(3) && q.size(1) % k.size(1) == 0, "sparse attention: q ", q.sizes(), " does not fit k ", k.sizes());
  check_type("sparse attention", q);
  TORCH_CHECK(q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(), "sparse attention: q, k and v have different types: ", q.scalar_type(), ", ",
              k.scalar_type(), ", ", v.scalar_type());
  TORCH_CHECK(q.device() == k.device() && q.device() == v.device(), "sparse attention: q, k and v are on different devices");
  TORCH_CHECK(!o.causal || q.size(2) <= k.size(2), "sparse attention: ", q.size(2), " causal queries have only ", k.size(2), " keys");
  TORCH_CHECK(!o.scale || *o.scale > 0, "sparse attention: the scale must be above 0, not ", o.scale.value_or(0));
  if (o.mode == Mode::kTopK) {
    TORCH_CHECK(o.value >= 1 && o.value == std::floor(o.value), "sparse attention: top_k is a whole number from 1, not ", o.value);
    TORCH_CHECK(o.value <= static_cast<double>(k.size(2)), "sparse attention: top_k ", o.value, " is more than the ", k.size(2), " keys");
  } else {
    TORCH_CHECK(o.value > 0 && o.value <= 1, "sparse attention: ", o.mode == Mode::kRatio ? "ratio" : "top_p", " lies above 0, up to 1; not ", o.value);
  }
  TORCH_CHECK(o.least >= 1, "sparse attention: at least 1 key is kept, not ", o.least);
}

DynamicAttentionResult dynamic_sparse_attention(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in, const DynamicAttentionOptions& options) {
  check_dynamic_attention(q_in, k_in, v_in, options);
  if (!q_in.is_cpu()) return operators::dynamic_sparse_attention(q_in, k_in, v_in, options);
  const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
  const auto rows = q.sizes().slice(0, 3);
  const auto f32 = q.options().dtype(at::kFloat);
  DynamicAttentionResult result{at::empty_like(q), {at::empty(rows, f32), at::empty(rows, f32), at::empty(rows, f32.dtype(at::kInt))}};
  Forward(q, k, v, options, result).run();
  return result;
}

DynamicAttentionGradients dynamic_sparse_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                            const DynamicAttentionRows& rows, const DynamicAttentionOptions& options) {
  check_dynamic_attention(q, k, v, options);
  TORCH_CHECK(d_out.sizes() == q.sizes() && rows.threshold.numel() * q.size(3) == q.numel(), "sparse attention: a gradient of ", d_out.sizes(), " does not fit q ", q.sizes());
  if (!q.is_cpu()) return operators::dynamic_sparse_attention_backward(d_out, q, k, v, rows, options);
  const at::Tensor d = d_out.to(q.scalar_type()).contiguous(), qc = q.contiguous(), kc = k.contiguous(), vc = v.contiguous();
  DynamicAttentionGradients out{at::empty_like(qc), at::empty_like(kc), at::empty_like(vc)};
  Backward(d, qc, kc, vc, rows, options).run(out);
  return out;
}

}  // namespace deepseek::kernels
