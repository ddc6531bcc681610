#include "models/indexer_reads.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/sparse_attention/selection.h"

namespace deepseek::models {

base::Result<IndexerReads> indexer_reads_named(const std::string& name, int64_t own_top_k) {
  const IndexerReads own{true, {.value = static_cast<double>(own_top_k)}};
  if (name == "dense") return IndexerReads{};
  if (name == "auto" || name == "dsa") return own;
  auto asked = kernels::selection_named(name);
  if (!asked) return base::pass(asked);
  using Asked = kernels::SelectionOptions::Mode;
  const kernels::SelectionOptions& o = **asked;
  if (o.mode == Asked::kRatio) return base::refuse("--attention {}: an indexer takes dsa:top_k or dsa:top_p", name);
  if (o.mode == Asked::kTopK) return IndexerReads{true, {.value = static_cast<double>(o.top_k)}};
  return IndexerReads{true, {.mode = kernels::IndexerOptions::Mode::kTopP, .value = o.top_p, .most = own_top_k}};
}

at::Tensor append_rows(at::Tensor& cached, const at::Tensor& rows, int64_t before) {
  const int64_t after = before + rows.size(0);
  if (!cached.defined() || cached.size(0) < after) {
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] = std::max(after, 2 * before);
    at::Tensor grown = at::empty(shape, rows.options());
    if (before > 0) grown.narrow(0, 0, before).copy_(cached.narrow(0, 0, before));
    cached = grown;
  }
  cached.narrow(0, before, rows.size(0)).copy_(rows);
  return cached.narrow(0, 0, after);
}

}  // namespace deepseek::models
