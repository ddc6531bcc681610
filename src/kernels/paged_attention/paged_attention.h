// Causal attention of many sequences of unlike length over a paged cache, decode and prefill in one call, with an online softmax.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/paged_attention/kv_pool.h"
#include "kernels/sparse_attention/selection.h"

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
  /// Reads chosen keys only; the pool must have summaries of all full pages. Not for windows. One for all heads of queries, or one for each; none:
  /// reads all.
  std::span<const SelectionOptions> selections;
};

/// Up to 16 queries that share a key head, side by side or as rows. Their results so far, as an online softmax keeps them.
struct QueryTile {
  static constexpr int64_t kMost = 16;
  int64_t count = 0;
  bool rows = false;
  const uint16_t* q = nullptr;     ///< bf16, scaled: [width / 2][count][2], as rows [count][width]
  int64_t first[kMost], last[kMost];  ///< positions that each query sees, `last` included; neither falls from one query to the next
  float best[kMost], sum[kMost];   ///< largest score, and sum of exp(score - best)
  float* out = nullptr;            ///< [count][width], not yet divided by sum
};

/// 1 to 4 tiles of 16 keys each and their values, of any pages, in the order of their positions.
struct KeyTiles {
  static constexpr int kMost = 4;
  int count = 0;
  const uint16_t* keys[kMost];    ///< [width / 2][16 positions][2]
  const uint16_t* values[kMost];  ///< [8][width][2 positions]
  int64_t positions[kMost];       ///< of the first key
  uint32_t readers[kMost];        ///< bit t: query t of the tile reads these keys
};

/// Adds keys to the results of a tile of queries, of which each reads what lies between its first and last position. Implementations differ
/// in rounding; amx gives what avx512 gives below rows_from, so that tokens which are guessed and checked together come out as they do one by one
/// (where all keys are read: chosen ones come in other blocks, which round otherwise).
struct AttentionKernel {
  const char* name;  ///< "avx512", "avx2", "reference"
  std::string (*declines)();
  void (*attend)(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile);
  /// out[e][4 p + i] = the product of estimator e, of `count`, with tile i of page p's summary (KvPool::summarise). estimators: [count][2 width] bf16.
  void (*estimate)(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]);
  static constexpr int64_t kEstimators = 4;  ///< at most
  int64_t rows_from = 0;  ///< new positions of a sequence from which on it wants its queries as rows; 0: never
};
[[nodiscard]] std::span<const AttentionKernel> attention_kernels();
/// The first that does not decline; DEEPSEEK_FORCE_KERNEL=name picks one that is in this list.
[[nodiscard]] const AttentionKernel& choose_attention();

/// Keys that were read of those that were there, in tiles, over all queries of a layer, and the share of their attention that these hold by the
/// estimate that chose them (in whole numbers, so that the sum does not depend on its order).
struct TileCount {
  static constexpr int64_t kMass = 1 << 20;  ///< all of a query's attention
  int64_t read = 0, visible = 0, queries = 0, mass = 0;
  void add(const TileCount& other) {
    read += other.read;
    visible += other.visible;
    queries += other.queries;
    mass += other.mass;
  }
  [[nodiscard]] double share_read() const { return visible == 0 ? 1.0 : static_cast<double>(read) / static_cast<double>(visible); }
  [[nodiscard]] double mass_kept() const { return queries == 0 ? 1.0 : static_cast<double>(mass) / static_cast<double>(queries) / static_cast<double>(kMass); }
};

/// The work of one call, cut into items that threads may take in any order. Buffers are kept from call to call.
///
/// With a selection, a prompt's blocks of 16 positions (counted from the start of the sequence) choose together for each head, by the mean of
/// their queries: fewer than 16 where a call begins or ends inside a block. A sequence with up to 12 new positions chooses for each position
/// and key head, so that what is guessed and checked together reads what it would read one by one: by the mean share over its heads, or, where
/// they have unlike selections, all that one of them chooses. What a row reads never depends on other sequences, nor on the number of threads.
/// The estimate of a tile's share: with the mean m and the variance s of its keys, q m + q^2 s / 2 is the logarithm of the mean of e^(q k) for
/// keys that are normally distributed.
class PagedAttention {
 public:
  /// Cuts: 48 queries an item, in tiles of 16; keys in up to `threads` parts where there are fewer items than threads.
  void plan(std::span<const AttentionSequence> sequences, const KvPool& pool, const PagedAttentionOptions& options, int threads);

  /// The phases of a call, each after all items of the one before: summarise (pages that became full, with a selection), estimate, choose (both
  /// only where a few positions select), run, merge.
  [[nodiscard]] int64_t summaries() const { return static_cast<int64_t>(filled_.size()) * kv_heads_; }
  void summarise(int64_t index, KvPool& pool, int64_t layer);
  [[nodiscard]] int64_t estimates() const { return choices() * kEstimateParts; }
  void estimate(int64_t index, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q);
  [[nodiscard]] int64_t choices() const { return static_cast<int64_t>(used_choosers_); }
  void choose(int64_t index);
  [[nodiscard]] int64_t items() const { return static_cast<int64_t>(items_.size()); }
  /// q, out: [rows][heads * head_dim] f32. out is written where keys were not cut. Returns what was read.
  TileCount run(int64_t item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, float* out);
  /// Joins the parts of item i of merges().
  [[nodiscard]] int64_t merges() const { return merges_; }
  void merge(int64_t index, float* out);

 private:
  enum class Reads { kAll, kBlocks, kFew };
  struct Item {
    int64_t sequence, head, query, queries;  // head of keys, and queries are [token][group]; kBlocks: head of queries, which are tokens
    int64_t page_begin, page_end;
    int64_t part = 0, parts = 1;
    Reads reads = Reads::kAll;
    int64_t chooser = -1;  // kFew
  };
  // A key head of a sequence with few new positions.
  struct Chooser {
    int64_t sequence, head;
    int64_t pages = 0;                // that are estimated
    std::vector<float> estimates;     // [token][group][4 pages]
    std::vector<uint16_t> readers;    // [tile]: bit t: token t reads it
    std::vector<int32_t> list;        // tiles that any token reads
    std::vector<int64_t> mass;        // of each token's attention that its tiles hold, as TileCount has it
    TileSelection selection;
  };
  struct Scratch;
  static Scratch& scratch_of_thread(int64_t width, bool narrow);
  [[nodiscard]] const SelectionOptions& selection_of(int64_t head) const { return options_.selections[options_.selections.size() == 1 ? 0 : static_cast<size_t>(head)]; }
  void plan_blocks(int64_t sequence);
  void plan_queries(int64_t sequence, bool selects);
  void load_queries(const Item& item, const AttentionKernel& kernel, const float* q, Scratch& scratch, std::span<QueryTile> tiles) const;
  void finish(const Item& item, int64_t index, std::span<const QueryTile> tiles, float* out);
  TileCount attend_all(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, Scratch& scratch, std::span<QueryTile> tiles) const;
  TileCount attend_blocks(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, Scratch& scratch,
                          std::span<QueryTile> tiles) const;
  TileCount attend_few(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, Scratch& scratch, std::span<QueryTile> tiles) const;
  std::span<const float> block_shares(const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const Item& item, int64_t token, int64_t count, int64_t end,
                                      const float* q, Scratch& scratch) const;
  template <typename Readers>
  void attend_list(std::span<const int32_t> list, const Readers& readers, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, int64_t head,
                   std::span<const int32_t> pages, Scratch& scratch, QueryTile& tile) const;
  void add_tile(KeyTiles& keys, const uint16_t* page, int64_t slot, int64_t position, uint32_t readers) const {
    keys.keys[keys.count] = page + slot * kKeyTile * width_;
    keys.values[keys.count] = page + (kPageTokens + slot * kKeyTile) * width_;
    keys.positions[keys.count] = position;
    keys.readers[keys.count++] = readers;
  }
  /// What a part of an item reads of a list of tiles.
  static std::span<const int32_t> part_of(const Item& item, std::span<const int32_t> list) {
    const auto size = static_cast<int64_t>(list.size()), begin = size * item.part / item.parts, end = size * (item.part + 1) / item.parts;
    return list.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
  /// Where the tile of queries that begins with `query` ends: after 16, blocks where a multiple of 16 positions is reached.
  [[nodiscard]] int64_t tile_end(const Item& item, int64_t query) const {
    const int64_t begin = item.reads == Reads::kBlocks ? (sequences_[static_cast<size_t>(item.sequence)].begin + item.query + query) % QueryTile::kMost : 0;
    return std::min(item.queries, query + QueryTile::kMost - begin);
  }
  /// Token and head of a query of an item.
  [[nodiscard]] std::pair<int64_t, int64_t> place(const Item& item, int64_t query) const {
    const int64_t at = item.query + query;
    return item.reads == Reads::kBlocks ? std::pair{at, item.head} : std::pair{at / group_, item.head * group_ + at % group_};
  }

  static constexpr int64_t kMostQueries = 48, kTilesOfItem = kMostQueries / QueryTile::kMost, kEstimateParts = 2;
  PagedAttentionOptions options_;
  std::vector<AttentionSequence> sequences_;
  std::vector<Item> items_;
  std::vector<Chooser> choosers_;  // the first used_choosers_ count
  size_t used_choosers_ = 0;
  std::vector<int32_t> filled_;  // pages that are full now
  size_t most_tiles_ = 0;        // of the pool
  int64_t merges_ = 0, parts_ = 1, kv_heads_ = 1, group_ = 1, dim_ = 0, width_ = 0;
  std::vector<float> parts_out_, parts_state_;  // [item][queries][width], [item][queries][best, sum]
};

}  // namespace deepseek::kernels
