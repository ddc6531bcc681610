#include "train/micro_batch.h"

#include <algorithm>
#include <numeric>

namespace deepseek::train {

MicroBatch pack(const Batch& examples, std::span<const size_t> chosen) {
  MicroBatch out;
  std::vector<std::vector<int32_t>> sequences;
  std::vector<int64_t> rows, targets;
  int64_t begin = 0;
  for (const size_t index : chosen) {
    const auto& example = *examples[index];
    int64_t counted = 0;
    for (size_t t = 1; t < example.tokens.size(); ++t) {
      if (example.counts[t] == 0) continue;
      rows.push_back(begin + static_cast<int64_t>(t) - 1);
      targets.push_back(example.tokens[t]);
      ++counted;
    }
    out.counted.emplace_back(index, counted);
    sequences.push_back(example.tokens);
    begin += static_cast<int64_t>(example.tokens.size());
  }
  out.packed = models::pack_sequences(sequences);
  out.rows = models::index_tensor(rows);
  out.targets = models::index_tensor(targets);
  return out;
}

std::vector<std::vector<size_t>> micro_batches(const Batch& examples, int64_t max_tokens) {
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return examples[a]->tokens.size() > examples[b]->tokens.size(); });
  std::vector<std::vector<size_t>> out;
  int64_t used = 0;
  for (const size_t index : order) {
    const auto length = static_cast<int64_t>(examples[index]->tokens.size());
    if (out.empty() || used + length > max_tokens) {
      out.emplace_back();
      used = 0;
    }
    out.back().push_back(index);
    used += length;
  }
  return out;
}

}  // namespace deepseek::train
