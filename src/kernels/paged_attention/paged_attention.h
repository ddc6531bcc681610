// Causal attention of many sequences of unlike length over a paged cache, decode and prefill in one call, with an online softmax.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/paged_attention/kv_pool.h"

namespace deepseek::kernels {

/// New positions [begin, begin + count) of a sequence: they are rows [row, row + count) of q and out, and are in the cache already.
struct AttentionSequence {
  std::span<const int32_t> pages;  ///< page i holds positions [64 i, 64 i + 64)
  int64_t begin = 0, count = 0, row = 0;
};

struct PagedAttentionOptions {
  int64_t heads = 1;        ///< of queries; a key head serves heads / kv_heads of them, in blocks
  float scale = 1.0f;
  float softcap = 0.0f;     ///< scores become softcap * tanh(scores / softcap); 0: none
  int64_t window = 0;       ///< keys that a query sees, its own included; 0: all before it
};

/// Up to 12 queries that share a key head, side by side, or up to 16 as rows. Their results so far, as an online softmax keeps them.
struct QueryTile {
  static constexpr int64_t kMost = 16, kMostSideBySide = 12;
  int64_t count = 0;
  bool rows = false;
  const uint16_t* q = nullptr;     ///< bf16, scaled: [width / 2][count][2], as rows [count][width]
  int64_t first[kMost], last[kMost];  ///< positions that each query sees, `last` included
  float best[kMost], sum[kMost];   ///< largest score, and sum of exp(score - best)
  float* out = nullptr;            ///< [count][width], not yet divided by sum
};

/// Adds the keys of one page, positions [64 i, 64 i + 64), to a tile. Implementations differ in rounding; amx gives what avx512 gives below
/// rows_from, so that tokens which are guessed and checked together come out as they do one by one.
struct AttentionKernel {
  const char* name;  ///< "avx512", "avx2", "reference"
  std::string (*declines)();
  void (*page)(const uint16_t* keys, const uint16_t* values, int64_t width, int64_t first_position, float softcap, QueryTile& tile);
  int64_t rows_from = 0;  ///< new positions of a sequence from which on it wants its queries as rows; 0: never
};
[[nodiscard]] std::span<const AttentionKernel> attention_kernels();
/// The first that does not decline; DEEPSEEK_FORCE_KERNEL=name picks one that is in this list.
[[nodiscard]] const AttentionKernel& choose_attention();

/// The work of one call, cut into items that threads may take in any order. Buffers are kept from call to call.
class PagedAttention {
 public:
  /// Cuts: 48 queries an item, in tiles of up to 12 or 16; keys in up to `threads` parts where there are fewer items than threads.
  void plan(std::span<const AttentionSequence> sequences, const KvPool& pool, const PagedAttentionOptions& options, int threads);

  [[nodiscard]] int64_t items() const { return static_cast<int64_t>(items_.size()); }
  /// q, out: [rows][heads * head_dim] f32. out is written where keys were not cut.
  void run(int64_t item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, float* out);
  /// After all items have run: joins the parts of item i of merges().
  [[nodiscard]] int64_t merges() const { return merges_; }
  void merge(int64_t index, float* out);

 private:
  struct Item {
    int64_t sequence, head, query, queries;  // queries are [token][group]
    int64_t page_begin, page_end;
    int64_t part, parts;
  };

  static constexpr int64_t kTilesOfItem = 4;  // of 12 queries; of 16 there are 3
  PagedAttentionOptions options_;
  std::vector<AttentionSequence> sequences_;
  std::vector<Item> items_;
  int64_t merges_ = 0, parts_ = 1, group_ = 1, dim_ = 0, width_ = 0;
  std::vector<float> parts_out_, parts_state_;  // [item][queries][width], [item][queries][best, sum]
};

}  // namespace deepseek::kernels
