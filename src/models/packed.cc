#include "models/packed.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace deepseek::models {

at::Tensor index_tensor(const std::vector<int64_t>& indices) {
  at::Tensor out = at::empty({static_cast<int64_t>(indices.size())}, at::kLong);
  std::copy(indices.begin(), indices.end(), out.mutable_data_ptr<int64_t>());
  return out;
}

at::Tensor float_tensor(const std::vector<float>& values) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
  return out;
}

at::Tensor tokens_tensor(const std::vector<int32_t>& tokens) { return index_tensor({tokens.begin(), tokens.end()}); }

PackedSequences pack_sequences(const std::vector<std::vector<int32_t>>& sequences) {
  std::vector<int32_t> tokens;
  PackedSequences packed;
  for (const auto& sequence : sequences) {
    if (sequence.empty()) continue;
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    packed.offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  packed.tokens = tokens_tensor(tokens);
  return packed;
}

}  // namespace deepseek::models
