#include "kernels/sparse_attention/indexer_loss.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/elementwise/tensor_rows.h"
#include "kernels/simd.h"
#include "kernels/sparse_attention/block_product.h"
#include "kernels/sparse_attention/head_rows.h"
#include "kernels/sparse_attention/indexer.h"
#include "kernels/sparse_attention/key_panels.h"
#include "kernels/sparse_attention/operators.h"
#include "kernels/sparse_attention/row_weights.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kQueries = 12;  // of a block, two blocks of rows of a product: with 8,192 keys each row set is 384 KiB
constexpr float kNone = -std::numeric_limits<float>::infinity();

// sums[s] += factor * x[s]
DEEPSEEK_VECTOR_CLONES void add_scaled(const float* x, float factor, float* sums, int64_t n) {
  for (int64_t s = 0; s < n; ++s) sums[s] += factor * x[s];
}

// KL of exp(x) from p. x are log probabilities.
DEEPSEEK_VECTOR_CLONES float divergence(const float* p, const float* x, float shift, int64_t n) {
  float sum = 0;
  for (int64_t s = 0; s < n; ++s) {
    const float mass = p[s] < 1e-35f ? 1e-35f : p[s], log = x[s] - shift < -1e30f ? -1e30f : x[s] - shift;  // 0 times infinity is 0 here
    sum += p[s] * (fast_log(mass) - log);
  }
  return sum;
}

// x[s] = exp(x[s] - shift) - p[s]
DEEPSEEK_VECTOR_CLONES void difference_of_masses(const float* p, float shift, float* x, int64_t n) {
  for (int64_t s = 0; s < n; ++s) x[s] = (x[s] - shift < -87.0f ? 0.0f : fast_exp(x[s] - shift)) - p[s];
}

// One head's tile: z becomes the gradient of the products before relu. Returns that of the head's weight.
DEEPSEEK_VECTOR_CLONES float head_gradient(const float* gradient, float weight, float* z) {
  float parts[kPanel];  // one chain of additions would not become vectors
  for (int64_t s = 0; s < kPanel; ++s) {
    const float value = z[s], slope = gradient[s];
    parts[s] = slope * (value > 0 ? value : 0.0f);
    z[s] = value > 0 ? slope * weight : 0.0f;
  }
  for (int64_t width = kPanel / 2; width > 0; width /= 2) {
    for (int64_t s = 0; s < width; ++s) parts[s] += parts[s + width];
  }
  return parts[0];
}

float mass_of_largest(const float* x, const float* p, int64_t n, int64_t count) {
  const RowFacts facts = facts_of(x, n);
  if (facts.has_nan || count >= n) return facts.has_nan ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
  return kept_mass(x, p, n, largest_scores(x, n, count, facts));
}

struct Shape {
  int64_t batch, queries, keys, heads, kv_heads, index_heads;
  explicit Shape(const IndexerLossInputs& in)
      : batch(in.q.size(0)), queries(in.q.size(2)), keys(in.k.size(2)), heads(in.q.size(1)), kv_heads(in.k.size(1)),
        index_heads(in.index_q.size(2)) {}
  [[nodiscard]] int64_t panels() const { return (keys + kPanel - 1) / kPanel; }
  [[nodiscard]] int64_t columns() const { return panels() * kPanel; }
  [[nodiscard]] int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
};

struct Scratch {
  ScoreRows q, index_q;
  std::vector<float> scores, p, tile, index_scores, listed, d_index_q;
  Scratch(const Shape& s, int64_t index_width)
      : scores(static_cast<size_t>(kQueries * s.columns())), p(scores.size()), tile(static_cast<size_t>(kQueries * s.index_heads * kPanel)), index_scores(scores.size()),
        d_index_q(static_cast<size_t>(kQueries * s.index_heads * index_width)) {}
};

// Queries that one thread works on together.
struct Block {
  int64_t batch, first, count, row;  // row: of the first query among all batches'
};

class Loss {
 public:
  Loss(const IndexerLossInputs& in, const IndexerLossOptions& o, IndexerLossResult& out)
      : in_(in), o_(o), out_(out), s_(in), panels_(in.k), index_panels_(in.index_k), index_width_(index_panels_.width()),
        index_rows_(static_cast<size_t>(s_.batch * s_.columns() * index_width_)) {
    for (int64_t b = 0; b < s_.batch; ++b) load_rows(in.index_k, b * s_.keys, s_.keys, index_width_, index_rows_.data() + b * s_.columns() * index_width_);
  }

  // Each part sums the gradient of index_k over its blocks in order, then the parts are summed in order: threads change nothing.
  void run() {
    const int64_t parts = std::min(kGradientParts, s_.blocks()), size = s_.keys * index_width_;
    std::vector<float> dk(o_.gradients ? static_cast<size_t>(s_.batch * parts * size) : 0);
    at::parallel_for(0, s_.batch * parts, 1, [&](int64_t from, int64_t to) {
      Scratch x(s_, index_width_);
      for (int64_t i = from; i < to; ++i) {
        for (int64_t block = i % parts; block < s_.blocks(); block += parts) {
          const int64_t batch = i / parts, first = block * kQueries;
          one({batch, first, std::min(kQueries, s_.queries - first), batch * s_.queries + first}, x, o_.gradients ? dk.data() + i * size : nullptr);
        }
      }
    });
    if (o_.gradients) store_sum_of_parts(dk.data(), parts, index_width_, out_.d_index_k);
  }

 private:
  [[nodiscard]] int64_t visible(const Block& b, int64_t query) const { return s_.keys - s_.queries + b.first + query + 1; }

  void one(const Block& b, Scratch& x, float* dk) const {
    target(b, x);
    index_panels_.load(in_.index_q, b.row * s_.index_heads, b.count * s_.index_heads, x.index_q);
    for (int64_t panel = 0; panel * kPanel < visible(b, b.count - 1); ++panel) {
      index_tile(b, panel, x);
      for (int64_t query = 0; query < b.count; ++query) {
        weighted_relu(x.tile.data() + query * s_.index_heads * kPanel, weights(b, query), s_.index_heads, x.index_scores.data() + query * s_.columns() + panel * kPanel);
      }
    }
    for (int64_t query = 0; query < b.count; ++query) row(b, query, x);
    if (dk != nullptr) backward(b, x, dk);
  }

  // p: the main attention's probabilities, averaged over its heads.
  void target(const Block& b, Scratch& x) const {
    std::fill(x.p.begin(), x.p.end(), 0.0f);
    for (int64_t h = 0; h < s_.heads; ++h) {
      panels_.load(in_.q, (b.batch * s_.heads + h) * s_.queries + b.first, b.count, x.q);
      const int64_t kv_head = b.batch * s_.kv_heads + h / (s_.heads / s_.kv_heads);
      for (int64_t panel = 0; panel * kPanel < visible(b, b.count - 1); ++panel) {
        panels_.multiply(x.q, b.count, kv_head, panel, kPanel, x.scores.data() + panel * kPanel, s_.columns());
      }
      for (int64_t query = 0; query < b.count; ++query) {
        float* scores = x.scores.data() + query * s_.columns();
        const int64_t n = visible(b, query);
        keep_listed(b, query, scores, x);
        const RowFacts facts = facts_of(scores, n);
        const float sum = exponentials(scores, facts.largest, static_cast<float>(o_.scale), scores, n);
        add_scaled(scores, facts.has_nan ? std::numeric_limits<float>::quiet_NaN() : 1.0f / (sum * static_cast<float>(s_.heads)), x.p.data() + query * s_.columns(), n);
      }
    }
  }

  void index_tile(const Block& b, int64_t panel, Scratch& x) const {
    index_panels_.multiply(x.index_q, b.count * s_.index_heads, b.batch, panel, kPanel, x.tile.data(), kPanel);
  }

  // Loss and masses of a query; its index scores become their gradient, 0 up to the end of the row's panels.
  void row(const Block& b, int64_t query, Scratch& x) const {
    float* scores = x.index_scores.data() + query * s_.columns();
    const float* p = x.p.data() + query * s_.columns();
    const int64_t n = visible(b, query);
    keep_listed(b, query, scores, x);
    if (o_.recall_of > 0) {
      data_of<float>(out_.kept)[b.row + query] = mass_of_largest(scores, p, n, o_.recall_of);
      data_of<float>(out_.most)[b.row + query] = mass_of_largest(p, p, n, o_.recall_of);
    }
    const RowFacts facts = facts_of(scores, n);
    x.listed.resize(static_cast<size_t>(n));
    const float shift = facts.has_nan ? std::numeric_limits<float>::quiet_NaN() : facts.largest + std::log(exponentials(scores, facts.largest, 1, x.listed.data(), n));
    data_of<float>(out_.loss)[b.row + query] = divergence(p, scores, shift, n);
    if (!o_.gradients) return;
    difference_of_masses(p, shift, scores, n);
    std::fill(scores + n, scores + s_.columns(), 0.0f);
  }

  void backward(const Block& b, Scratch& x, float* dk) const {
    std::fill(x.d_index_q.begin(), x.d_index_q.end(), 0.0f);
    const int64_t rows = b.count * s_.index_heads;
    float* dw = data_of<float>(out_.d_index_weights) + b.row * s_.index_heads;
    std::fill(dw, dw + rows, 0.0f);
    for (int64_t panel = 0; panel * kPanel < visible(b, b.count - 1); ++panel) {
      index_tile(b, panel, x);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t query = r / s_.index_heads;
        dw[r] += head_gradient(x.index_scores.data() + query * s_.columns() + panel * kPanel, weights(b, 0)[r], x.tile.data() + r * kPanel);
      }
      const float* keys = index_rows_.data() + (b.batch * s_.columns() + panel * kPanel) * index_width_;
      multiply(BlockProduct{.a = x.tile.data(), .a_row = kPanel, .b = keys, .b_row = index_width_, .c = x.d_index_q.data(), .c_row = index_width_, .rows = rows, .depth = kPanel,
                .columns = index_width_, .add = true});
      multiply(BlockProduct{.a = x.tile.data(), .a_row = 1, .a_depth = kPanel, .b = x.index_q.f32.data(), .b_row = index_width_, .c = dk + panel * kPanel * index_width_,
                .c_row = index_width_, .rows = std::min(kPanel, s_.keys - panel * kPanel), .depth = rows, .columns = index_width_, .add = true});
    }
    store_rows(x.d_index_q.data(), index_width_, b.row * s_.index_heads, rows, out_.d_index_q);
  }

  [[nodiscard]] const float* weights(const Block& b, int64_t query) const { return data_of<float>(in_.index_weights) + (b.row + query) * s_.index_heads; }

  // Calls body(key) for each key of a query's list.
  template <typename Body>
  void each_listed(const Block& b, int64_t query, const Body& body) const {
    const int32_t* list = data_of<int32_t>(in_.keys) + (b.row + query) * in_.keys.size(2);
    for (int64_t i = 0; i < in_.keys.size(2); ++i) {
      if (list[i] >= 0 && list[i] < visible(b, query)) body(static_cast<int64_t>(list[i]));
    }
  }
  // -infinity where the query's list does not name the key.
  void keep_listed(const Block& b, int64_t query, float* scores, Scratch& x) const {
    if (!in_.keys.defined()) return;
    x.listed.clear();
    each_listed(b, query, [&](int64_t key) { x.listed.push_back(scores[key]); });
    std::fill(scores, scores + visible(b, query), kNone);
    size_t i = 0;
    each_listed(b, query, [&](int64_t key) { scores[key] = x.listed[i++]; });
  }

  const IndexerLossInputs& in_;
  const IndexerLossOptions& o_;
  IndexerLossResult& out_;
  Shape s_;
  KeyPanels panels_, index_panels_;
  int64_t index_width_;
  std::vector<float> index_rows_;
};

void check(const IndexerLossInputs& in, const IndexerLossOptions& o) {
  check_indexer(in.index_q, in.index_k, in.index_weights, {});
  TORCH_CHECK(in.index_q.scalar_type() == at::kFloat, "indexer loss: the indexer is trained in f32, not ", in.index_q.scalar_type());
  check_type("indexer loss", in.q);
  TORCH_CHECK(in.q.dim() == 4 && in.k.dim() == 4 && in.q.numel() > 0 && in.k.numel() > 0, "indexer loss: q must be [batch, heads, queries, dim], k [batch, kv_heads, keys, dim]; got ",
              in.q.sizes(), ", ", in.k.sizes());
  TORCH_CHECK(in.q.size(0) == in.k.size(0) && in.q.size(3) == in.k.size(3) && in.q.size(1) % in.k.size(1) == 0 && in.q.scalar_type() == in.k.scalar_type() &&
                  in.q.size(0) == in.index_q.size(0) && in.q.size(2) == in.index_q.size(1) && in.k.size(2) == in.index_k.size(1),
              "indexer loss: q ", in.q.sizes(), " and k ", in.k.sizes(), " do not belong to an indexer of ", in.index_q.sizes(), " and ", in.index_k.sizes());
  TORCH_CHECK(!in.keys.defined() || (in.keys.dim() == 3 && in.keys.scalar_type() == at::kInt && in.keys.size(0) == in.q.size(0) && in.keys.size(1) == in.q.size(2)),
              "indexer loss: lists of keys are [batch, queries, count] int32");
  TORCH_CHECK(in.q.device() == in.index_q.device() && in.q.device() == in.k.device(), "indexer loss: the tensors are on different devices");
  TORCH_CHECK(o.scale > 0 && o.recall_of >= 0, "indexer loss: the scale must be above 0 and recall_of not below it; got ", o.scale, " and ", o.recall_of);
}

}  // namespace

IndexerLossResult indexer_loss(const IndexerLossInputs& given, const IndexerLossOptions& o) {
  check(given, o);
  if (!given.q.is_cpu()) return operators::indexer_loss(given, o);
  IndexerLossInputs in{given.index_q.contiguous(), given.index_k.contiguous(), given.index_weights.contiguous(), given.q.contiguous(), given.k.contiguous(), given.keys};
  if (in.keys.defined()) in.keys = in.keys.contiguous();
  IndexerLossResult out;
  out.loss = at::empty({in.q.size(0), in.q.size(2)}, in.index_q.options());
  if (o.gradients) {
    out.d_index_q = at::empty_like(in.index_q);
    out.d_index_k = at::empty_like(in.index_k);
    out.d_index_weights = at::empty_like(in.index_weights);
  }
  if (o.recall_of > 0) {
    out.kept = at::empty_like(out.loss);
    out.most = at::empty_like(out.loss);
  }
  Loss(in, o, out).run();
  return out;
}

}  // namespace deepseek::kernels
