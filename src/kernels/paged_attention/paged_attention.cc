#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include "hardware/cpu.h"
#include "kernels/bf16_product/bf16_product.h"
#include "kernels/choose.h"
#include "kernels/paged_attention/implementations.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

std::string never() { return ""; }
std::string without_avx2() {
  const auto& f = hardware::cpu().features;
  return f.avx2 && f.fma ? "" : "the processor has no AVX2 with FMA";
}
std::string without_avx512() {
  const auto& f = hardware::cpu().features;
  return f.avx512f && f.avx512bw && f.avx512vl ? "" : "the processor has no AVX-512";
}

#if defined(__x86_64__)
bool has_bf16() { return hardware::cpu().features.avx512_bf16; }

bool widens_bf16() {
  static const bool is = !has_bf16() || !bf16_vectors_pay();
  return is;
}
void estimate_avx512(const uint16_t* const (&pages)[4], const uint16_t* estimators, int64_t count, int64_t width, float (*out)[16]) {
  widens_bf16() ? estimate_avx512_wide(pages, estimators, count, width, out) : estimate_avx512_bf16(pages, estimators, count, width, out);
}

constexpr int64_t kRowsFrom = 13;  // the speculation of engine/ checks 12 tokens together at most

std::string without_tiles() {
  if (!hardware::request_amx()) return "the kernel refused the tiles (arch_prctl)";
  return agrees_with_reference({"amx", nullptr, attend_amx, estimate_avx512, 1}) ? "" : "AMX gave wrong results in its self-check";
}

std::string without_amx() {
  if (!hardware::cpu().features.amx_bf16) return "the processor has no AMX bf16";
  if (std::string reason = without_avx512(); !reason.empty() || !has_bf16()) return "the processor has no AVX-512 BF16";
  static const std::string reason = without_tiles();  // checked once
  return reason;
}
#endif

constexpr std::array kKernels{
#if defined(__x86_64__)
    AttentionKernel{"amx", without_amx, attend_amx, estimate_avx512, kRowsFrom},
    AttentionKernel{"avx512", without_avx512, attend_avx512, estimate_avx512},
    AttentionKernel{"avx2", without_avx2, attend_avx2, estimate_portable},
#endif
    AttentionKernel{"reference", never, attend_reference, estimate_portable},
};

constexpr int64_t kFewestPagesOfPart = 4;  // below 256 keys joining costs more than it saves
constexpr int64_t kFewTokens = 12;         // new positions that choose for themselves: the most that engine/ guesses and checks together
constexpr int64_t kBlock = QueryTile::kMost;  // positions that choose together
constexpr int64_t kEstimatedTogether = 4;

// Full pages before the page of a position; the last of them and all after are read anyway.
int64_t full_pages(int64_t position) { return position / kPageTokens; }
int64_t candidates(int64_t position) { return std::max<int64_t>(0, full_pages(position) - 1) * kPageTiles; }

// What is read of the candidates, given the estimated shares of the tiles in full pages: the first tile, and those that the selection takes.
// each(tile) is called in ascending order. Returns the share of the attention that is read.
template <typename Body>
float choose_tiles(const SelectionOptions& options, TileSelection& selection, std::span<const float> shares, int64_t first_position, int64_t last_position, const Body& each) {
  const int64_t count = candidates(first_position), visible = last_position / kKeyTile + 1;
  if (count == 0) return 1.0f;
  float kept = shares[0];
  for (const float share : shares.subspan(static_cast<size_t>(count))) kept += share;
  each(0);
  const auto rest = shares.subspan(1, static_cast<size_t>(count - 1));
  for (const int32_t tile : selection.choose(rest, budget_of(options, visible, visible - count + 1, kept))) {
    kept += rest[static_cast<size_t>(tile)];
    each(tile + 1);
  }
  return kept;
}

int64_t in_units(float mass) { return std::lround(std::clamp(mass, 0.0f, 1.0f) * static_cast<float>(TileCount::kMass)); }

// Positions up to which the budget holds all keys, or a selection costs more than it saves.
int64_t read_whole_below(const SelectionOptions& options) {
  return options.mode == SelectionOptions::Mode::kTopK ? std::max(options.dense_below, options.top_k) : options.dense_below;
}

// What an estimate reads of queries: [2][width] bf16, their mean and the mean of their squares. First the sums.
DEEPSEEK_VECTOR_CLONES void add_query(const float* x, float scale, int64_t dim, float* sums, float* squares) {
  for (int64_t d = 0; d < dim; ++d) {
    const float value = x[d] * scale;
    sums[d] += value;
    squares[d] += value * value;
  }
}
DEEPSEEK_VECTOR_CLONES void round_mean(const float* sums, float count, int64_t n, uint16_t* to) {
  for (int64_t d = 0; d < n; ++d) to[d] = f32_to_bf16(sums[d] / count);
}
DEEPSEEK_VECTOR_CLONES void round_scaled(const float* x, float scale, int64_t n, uint16_t* to) {
  for (int64_t d = 0; d < n; ++d) to[d] = f32_to_bf16(x[d] * scale);
}
DEEPSEEK_VECTOR_CLONES void add_scaled(const float* x, float by, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += by * x[i];
}

}  // namespace

// What one thread needs for an item; grows to the largest and stays.
struct PagedAttention::Scratch {
  std::vector<uint16_t> q, row, estimators;  // estimators: [4][2][width]
  std::vector<uint16_t> pages[KeyTiles::kMost];
  std::vector<float> out, sums, shares, some_shares;  // some_shares: [4][tiles]
  std::vector<int32_t> list;
  TileSelection selection;

  // Sets an estimator from `count` queries `stride` floats apart.
  void set_estimator(int64_t index, const float* q, int64_t stride, int64_t count, float scale, int64_t dim, int64_t width) {
    std::fill_n(sums.begin(), 2 * width, 0.0f);
    for (int64_t j = 0; j < count; ++j) add_query(q + j * stride, scale, dim, sums.data(), sums.data() + width);
    round_mean(sums.data(), static_cast<float>(count), 2 * width, estimators.data() + index * 2 * width);
  }
  // Logarithms of the shares of the tiles in pages [begin, end), up to a constant, by each of `count` estimators: rows `stride` apart.
  void estimate(const AttentionKernel& kernel, const KvPool& pool, int64_t layer, int64_t head, std::span<const int32_t> pages_of, int64_t begin, int64_t end, int64_t count,
                float* to, int64_t stride) const {
    for (int64_t p = begin; p < end; p += 4, to += 16) {
      const uint16_t* four[4];
      for (int64_t i = 0; i < 4; ++i) four[i] = pool.summary(layer, head, pages_of[static_cast<size_t>(std::min(p + i, end - 1))]);
      float out_of_four[AttentionKernel::kEstimators][16];
      kernel.estimate(four, estimators.data(), count, pool.width(), out_of_four);
      for (int64_t e = 0; e < count; ++e) std::copy_n(out_of_four[e], std::min<int64_t>(4, end - p) * kPageTiles, to + e * stride);
    }
  }
};

PagedAttention::Scratch& PagedAttention::scratch_of_thread(int64_t width, bool narrow) {
  thread_local Scratch scratch;
  const auto page = static_cast<size_t>(2 * kPageTokens * width), queries = static_cast<size_t>(kMostQueries * width);
  for (auto& one : scratch.pages) {
    if (narrow && one.size() < page) one.resize(page);
  }
  if (scratch.q.size() < queries) {
    scratch.q.resize(queries);
    scratch.out.resize(queries);
    scratch.row.resize(static_cast<size_t>(width));
    scratch.sums.resize(static_cast<size_t>(2 * width));
    scratch.estimators.resize(static_cast<size_t>(AttentionKernel::kEstimators * 2 * width));
  }
  return scratch;
}

#if defined(__x86_64__)
void attend_avx512(const KeyTiles& keys, int64_t width, float softcap, QueryTile& tile) {
  widens_bf16() ? attend_avx512_wide(keys, width, softcap, tile) : attend_avx512_bf16(keys, width, softcap, tile);
}
#endif

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

const AttentionKernel& choose_attention() {
  const auto chosen = choose_kernel(attention_kernels());
  return chosen ? **chosen : kKernels.back();  // a name of another list: the portable form
}

void PagedAttention::plan(std::span<const AttentionSequence> sequences, const KvPool& pool, const PagedAttentionOptions& options, int threads) {
  options_ = options;
  sequences_.assign(sequences.begin(), sequences.end());
  kv_heads_ = pool.heads();
  group_ = options.heads / kv_heads_;
  dim_ = pool.head_dim();
  width_ = pool.width();
  most_tiles_ = static_cast<size_t>(pool.pages() * kPageTiles);
  items_.clear();
  filled_.clear();
  used_choosers_ = 0;
  merges_ = 0;
  int64_t whole_below = std::numeric_limits<int64_t>::max();
  for (const auto& selection : options.selections) whole_below = std::min(whole_below, read_whole_below(selection));
  for (size_t s = 0; s < sequences_.size(); ++s) {
    const auto& sequence = sequences_[s];
    const auto index = static_cast<int64_t>(s);
    const bool selects = sequence.begin + sequence.count > std::max(whole_below, 2 * kPageTokens);
    for (int64_t p = sequence.begin / kPageTokens; !options.selections.empty() && p < (sequence.begin + sequence.count) / kPageTokens; ++p) {
      filled_.push_back(sequence.pages[static_cast<size_t>(p)]);
    }
    if (selects && sequence.count > kFewTokens) plan_blocks(index);
    else plan_queries(index, selects);
  }
  // The longest first, so that no thread begins with it when the others are done.
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    const int64_t mine = (a.page_end - a.page_begin) * a.queries, theirs = (b.page_end - b.page_begin) * b.queries;
    return mine != theirs ? mine > theirs : std::tie(a.sequence, a.head, a.query) < std::tie(b.sequence, b.head, b.query);
  });
  const auto whole = static_cast<int64_t>(items_.size());
  parts_ = whole > 0 && whole < threads ? threads : 1;
  if (parts_ > 1) {
    parts_ = std::clamp<int64_t>((items_[0].page_end - items_[0].page_begin) / kFewestPagesOfPart, 1, parts_);
  }
  if (parts_ == 1) return;
  merges_ = whole;
  items_.resize(static_cast<size_t>(whole * parts_));
  for (int64_t i = whole; i-- > 0;) {
    const Item item = items_[static_cast<size_t>(i)];
    const int64_t pages = item.page_end - item.page_begin;
    for (int64_t p = 0; p < parts_; ++p) {
      Item& part = items_[static_cast<size_t>(i * parts_ + p)] = item;
      part.part = p;
      part.parts = parts_;
      if (item.reads != Reads::kAll) continue;  // what is chosen is cut when it is known
      part.page_begin = item.page_begin + pages * p / parts_;
      part.page_end = item.page_begin + pages * (p + 1) / parts_;
    }
  }
  const auto rows = static_cast<size_t>(whole * parts_ * kMostQueries);
  if (parts_out_.size() < rows * static_cast<size_t>(width_)) parts_out_.resize(rows * static_cast<size_t>(width_));
  if (parts_state_.size() < rows * 2) parts_state_.resize(rows * 2);
}

// Items of up to three blocks of one head of queries.
void PagedAttention::plan_blocks(int64_t index) {
  const auto& sequence = sequences_[static_cast<size_t>(index)];
  const int64_t end = sequence.begin + sequence.count;
  for (int64_t head = 0; head < options_.heads; ++head) {
    for (int64_t at = sequence.begin; at < end;) {
      const int64_t next = std::min(end, (at / kBlock + kTilesOfItem) * kBlock);
      items_.push_back({.sequence = index, .head = head, .query = at - sequence.begin, .queries = next - at, .page_begin = 0,
                        .page_end = (next - 1) / kPageTokens + 1, .reads = Reads::kBlocks});
      at = next;
    }
  }
}

void PagedAttention::plan_queries(int64_t index, bool selects) {
  const auto& sequence = sequences_[static_cast<size_t>(index)];
  const int64_t queries = sequence.count * group_;
  for (int64_t head = 0; head < kv_heads_; ++head) {
    if (selects) {
      if (choosers_.size() == used_choosers_) choosers_.emplace_back();
      Chooser& chooser = choosers_[used_choosers_++];
      chooser.sequence = index;
      chooser.head = head;
      chooser.pages = full_pages(sequence.begin + sequence.count - 1);
      // Room for as many pages again, so that it seldom grows with a sequence.
      const auto tiles = std::bit_ceil(static_cast<size_t>(chooser.pages * kPageTiles));
      if (chooser.estimates.size() < static_cast<size_t>(queries) * tiles) chooser.estimates.resize(static_cast<size_t>(queries) * tiles);
      if (chooser.readers.size() < most_tiles_) {
        chooser.readers.resize(most_tiles_);
        chooser.list.reserve(most_tiles_);
      }
    }
    for (int64_t at = 0; at < queries; at += kMostQueries) {
      const int64_t count = std::min(kMostQueries, queries - at);
      const int64_t first = sequence.begin + at / group_, last = sequence.begin + (at + count - 1) / group_;
      const int64_t oldest = options_.window > 0 ? std::max<int64_t>(0, first - options_.window + 1) : 0;
      items_.push_back({.sequence = index, .head = head, .query = at, .queries = count, .page_begin = oldest / kPageTokens, .page_end = last / kPageTokens + 1,
                        .reads = selects ? Reads::kFew : Reads::kAll, .chooser = selects ? static_cast<int64_t>(used_choosers_) - 1 : -1});
    }
  }
}

void PagedAttention::summarise(int64_t index, KvPool& pool, int64_t layer) {
  Scratch& scratch = scratch_of_thread(width_, pool.type() != KvType::kBF16);
  pool.summarise(layer, index % kv_heads_, filled_[static_cast<size_t>(index / kv_heads_)], scratch.pages[0].data());
}

void PagedAttention::estimate(int64_t index, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q) {
  Chooser& chooser = choosers_[static_cast<size_t>(index / kEstimateParts)];
  const auto& sequence = sequences_[static_cast<size_t>(chooser.sequence)];
  // Parts end at multiples of 4 pages, which are estimated at once.
  const int64_t part = index % kEstimateParts, fours = (chooser.pages + 3) / 4;
  const int64_t begin = fours * part / kEstimateParts * 4, end = std::min(fours * (part + 1) / kEstimateParts * 4, chooser.pages);
  if (begin >= end) return;
  Scratch& scratch = scratch_of_thread(width_, false);
  const int64_t rows = sequence.count * group_, stride = chooser.pages * kPageTiles;
  for (int64_t row = 0; row < rows; row += AttentionKernel::kEstimators) {
    const int64_t count = std::min(AttentionKernel::kEstimators, rows - row);
    for (int64_t e = 0; e < count; ++e) {
      const float* from = q + ((sequence.row + (row + e) / group_) * options_.heads + chooser.head * group_ + (row + e) % group_) * dim_;
      scratch.set_estimator(e, from, 0, 1, options_.scale, dim_, width_);
    }
    scratch.estimate(kernel, pool, layer, chooser.head, sequence.pages, begin, end, count, chooser.estimates.data() + row * stride + begin * kPageTiles, stride);
  }
}

void PagedAttention::choose(int64_t index) {
  Chooser& chooser = choosers_[static_cast<size_t>(index)];
  const auto& sequence = sequences_[static_cast<size_t>(chooser.sequence)];
  const int64_t end = sequence.begin + sequence.count, tiles = (end - 1) / kKeyTile + 1, estimated = chooser.pages * kPageTiles;
  std::fill_n(chooser.readers.begin(), tiles, uint16_t{0});
  chooser.mass.assign(static_cast<size_t>(sequence.count), 0);
  const int64_t first_head = chooser.head * group_;
  bool alike = true;
  for (int64_t h = 1; h < group_; ++h) alike = alike && selection_of(first_head + h) == selection_of(first_head);
  for (int64_t token = 0; token < sequence.count; ++token) {
    const int64_t position = sequence.begin + token, full = full_pages(position) * kPageTiles;
    const auto bit = static_cast<uint16_t>(1u << token);
    const auto read = [&](int64_t tile) { chooser.readers[static_cast<size_t>(tile)] |= bit; };
    const auto choose_for = [&](int64_t head, const float* shares) {
      const SelectionOptions& options = selection_of(head);
      if (position >= read_whole_below(options)) return choose_tiles(options, chooser.selection, {shares, static_cast<size_t>(full)}, position, position, read);
      for (int64_t tile = 0; tile < candidates(position); ++tile) read(tile);
      return 1.0f;
    };
    // The mean share over the heads.
    float* mean = chooser.estimates.data() + token * group_ * estimated;
    for (int64_t h = 0; h < group_; ++h) {
      softmax_row(mean + h * estimated, full);
      if (!alike) choose_for(first_head + h, mean + h * estimated);
      for (int64_t i = 0; h > 0 && i < full; ++i) mean[i] += mean[h * estimated + i];
    }
    for (int64_t i = 0; i < full; ++i) mean[i] /= static_cast<float>(group_);
    float kept = alike ? choose_for(first_head, mean) : full == 0 ? 1.0f : 0.0f;
    for (int64_t tile = candidates(position); tile <= position / kKeyTile; ++tile) read(tile);
    // What unlike heads chose overlaps.
    for (int64_t i = 0; !alike && i < full; ++i) kept += (chooser.readers[static_cast<size_t>(i)] & bit) != 0 ? mean[i] : 0.0f;
    chooser.mass[static_cast<size_t>(token)] = in_units(kept);
  }
  chooser.list.clear();
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (chooser.readers[static_cast<size_t>(tile)] != 0) chooser.list.push_back(static_cast<int32_t>(tile));
  }
}

// The queries of an item as a kernel wants them, and results of nothing yet.
void PagedAttention::load_queries(const Item& item, const AttentionKernel& kernel, const float* q, Scratch& scratch, std::span<QueryTile> tiles) const {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  const bool rows = kernel.rows_from > 0 && sequence.count >= kernel.rows_from;
  int64_t query = 0;
  for (size_t i = 0; i < tiles.size(); ++i) {
    QueryTile& t = tiles[i];
    t.count = tile_end(item, query) - query;
    t.rows = rows;
    uint16_t* packed = scratch.q.data() + query * width_;
    t.q = packed;
    t.out = scratch.out.data() + query * width_;
    std::fill(t.out, t.out + t.count * width_, 0.0f);
    for (int64_t j = 0; j < t.count; ++j, ++query) {
      const auto [token, head] = place(item, query);
      const float* from = q + ((sequence.row + token) * options_.heads + head) * dim_;
      uint16_t* to = rows ? packed + j * width_ : scratch.row.data();
      round_scaled(from, options_.scale, dim_, to);
      std::fill(to + dim_, to + width_, uint16_t{0});
      for (int64_t d = 0; d < width_ && !rows; d += 2) std::copy_n(to + d, 2, packed + (d / 2 * t.count + j) * 2);
      t.last[j] = sequence.begin + token;
      t.first[j] = options_.window > 0 ? std::max<int64_t>(0, t.last[j] - options_.window + 1) : 0;
      t.best[j] = -std::numeric_limits<float>::infinity();
      t.sum[j] = 0;
    }
  }
}

TileCount PagedAttention::run(int64_t index, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, float* out) {
  const Item& item = items_[static_cast<size_t>(index)];
  Scratch& scratch = scratch_of_thread(width_, pool.type() != KvType::kBF16);
  QueryTile tile[kTilesOfItem + 1];
  size_t count = 0;
  for (int64_t query = 0; query < item.queries; query = tile_end(item, query)) ++count;
  const std::span<QueryTile> tiles(tile, count);
  load_queries(item, kernel, q, scratch, tiles);
  const TileCount read = item.reads == Reads::kAll      ? attend_all(item, kernel, pool, layer, scratch, tiles)
                         : item.reads == Reads::kBlocks ? attend_blocks(item, kernel, pool, layer, q, scratch, tiles)
                                                        : attend_few(item, kernel, pool, layer, scratch, tiles);
  finish(item, index, tiles, out);
  return read;
}

TileCount PagedAttention::attend_all(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, Scratch& scratch, std::span<QueryTile> tiles) const {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  // Tiles of a page, [begin, end), between two positions.
  const auto within = [](int64_t page, int64_t first, int64_t last) {
    const int64_t at = page * kPageTokens;
    return std::pair{std::clamp<int64_t>(first - at, 0, kPageTokens) / kKeyTile, (std::clamp<int64_t>(last - at + 1, 0, kPageTokens) + kKeyTile - 1) / kKeyTile};
  };
  const auto last_of = [](const QueryTile& t) { return t.last[t.count - 1]; };
  for (int64_t p = item.page_begin; p < item.page_end; ++p) {
    const auto [from, to] = within(p, tiles[0].first[0], last_of(tiles.back()));
    const uint16_t* page = pool.read(layer, item.head, sequence.pages[static_cast<size_t>(p)], from * kKeyTile, to * kKeyTile, scratch.pages[0].data());
    for (QueryTile& t : tiles) {
      const auto [begin, end] = within(p, t.first[0], last_of(t));
      if (begin >= end) continue;
      KeyTiles keys;
      for (int64_t i = begin; i < end; ++i) add_tile(keys, page, i, p * kPageTokens + i * kKeyTile, ~0u);
      kernel.attend(keys, width_, options_.softcap, t);
    }
  }
  const int64_t seen = (item.page_end - item.page_begin) * kPageTiles * item.queries, queries = item.part == 0 ? item.queries : 0;
  return {seen, seen, queries, queries * TileCount::kMass};
}

// Calls the kernel with four tiles after the other of what readers(tile) says that some query reads.
template <typename Readers>
void PagedAttention::attend_list(std::span<const int32_t> list, const Readers& readers, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, int64_t head,
                                 std::span<const int32_t> pages, Scratch& scratch, QueryTile& tile) const {
  KeyTiles keys;
  for (const int32_t at : list) {
    const uint32_t who = readers(at);
    if (who == 0) continue;
    const int64_t slot = at % kPageTiles;
    const uint16_t* page = pool.read(layer, head, pages[static_cast<size_t>(at / kPageTiles)], slot * kKeyTile, (slot + 1) * kKeyTile,
                                     scratch.pages[static_cast<size_t>(keys.count)].data());
    add_tile(keys, page, slot, at * kKeyTile, who);
    if (keys.count < KeyTiles::kMost) continue;
    kernel.attend(keys, width_, options_.softcap, tile);
    keys.count = 0;
  }
  if (keys.count > 0) kernel.attend(keys, width_, options_.softcap, tile);
}

// The mean share of each tile before page `end` over tokens [token, token + count) of a head of queries. Four neighbours are estimated as one,
// by the means of their queries and of the squares: on Gemma 3 270M at 8,192 positions, 0.3 of the keys, the divergence is 0.0101; 0.0090 with
// each estimated for itself, 0.0139 with all 16 as one.
std::span<const float> PagedAttention::block_shares(const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const Item& item, int64_t token, int64_t count,
                                                    int64_t end, const float* q, Scratch& scratch) const {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  const int64_t tiles = end * kPageTiles;
  if (static_cast<int64_t>(scratch.shares.size()) < tiles) {
    scratch.shares.resize(std::bit_ceil(static_cast<size_t>(tiles)));
    scratch.some_shares.resize(AttentionKernel::kEstimators * scratch.shares.size());
  }
  static_assert(kBlock <= AttentionKernel::kEstimators * kEstimatedTogether);
  const int64_t estimators = (count + kEstimatedTogether - 1) / kEstimatedTogether, row = options_.heads * dim_;
  const auto together = [&](int64_t e) { return std::min(kEstimatedTogether, count - e * kEstimatedTogether); };
  for (int64_t e = 0; e < estimators; ++e) {
    const float* from = q + ((sequence.row + token + e * kEstimatedTogether) * options_.heads + item.head) * dim_;
    scratch.set_estimator(e, from, row, together(e), options_.scale, dim_, width_);
  }
  scratch.estimate(kernel, pool, layer, item.head / group_, sequence.pages, 0, end, estimators, scratch.some_shares.data(), tiles);
  std::fill_n(scratch.shares.begin(), tiles, 0.0f);
  for (int64_t e = 0; e < estimators; ++e) {
    float* some = scratch.some_shares.data() + e * tiles;
    softmax_row(some, tiles);
    add_scaled(some, static_cast<float>(together(e)) / static_cast<float>(count), tiles, scratch.shares.data());
  }
  return {scratch.shares.data(), static_cast<size_t>(tiles)};
}

TileCount PagedAttention::attend_blocks(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, Scratch& scratch,
                                        std::span<QueryTile> tiles) const {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  const int64_t head = item.head / group_;
  const SelectionOptions& options = selection_of(item.head);
  TileCount count;
  int64_t token = item.query;
  for (QueryTile& t : tiles) {
    const int64_t first = t.last[0], last = t.last[t.count - 1];
    scratch.list.clear();
    float kept = 1;
    if (last < read_whole_below(options)) {
      for (int64_t tile = 0; tile < candidates(first); ++tile) scratch.list.push_back(static_cast<int32_t>(tile));
    } else if (candidates(first) > 0) {
      const auto shares = block_shares(kernel, pool, layer, item, token, t.count, full_pages(first), q, scratch);
      kept = choose_tiles(options, scratch.selection, shares, first, last, [&](int64_t tile) { scratch.list.push_back(static_cast<int32_t>(tile)); });
    }
    for (int64_t tile = candidates(first); tile <= last / kKeyTile; ++tile) scratch.list.push_back(static_cast<int32_t>(tile));
    attend_list(part_of(item, scratch.list), [](int32_t) { return ~0u; }, kernel, pool, layer, head, sequence.pages, scratch, t);
    token += t.count;
    if (item.part > 0) continue;
    count.read += static_cast<int64_t>(scratch.list.size()) * t.count;
    count.visible += (last / kKeyTile + 1) * t.count;
    count.queries += t.count;
    count.mass += in_units(kept) * t.count;
  }
  return count;
}

TileCount PagedAttention::attend_few(const Item& item, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, Scratch& scratch, std::span<QueryTile> tiles) const {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  const Chooser& chooser = choosers_[static_cast<size_t>(item.chooser)];
  const auto list = part_of(item, chooser.list);
  TileCount count;
  int64_t query = 0;
  for (QueryTile& t : tiles) {
    const auto readers = [&](int32_t tile) {
      uint32_t bits = 0;
      for (int64_t j = 0; j < t.count; ++j) bits |= (chooser.readers[static_cast<size_t>(tile)] >> place(item, query + j).first & 1u) << j;
      count.read += std::popcount(bits);
      return bits;
    };
    attend_list(list, readers, kernel, pool, layer, item.head, sequence.pages, scratch, t);
    for (int64_t j = 0; j < t.count && item.part == 0; ++j) {
      count.visible += t.last[j] / kKeyTile + 1;
      count.queries += 1;
      count.mass += chooser.mass[static_cast<size_t>(place(item, query + j).first)];
    }
    query += t.count;
  }
  return count;
}

void PagedAttention::finish(const Item& item, int64_t index, std::span<const QueryTile> tiles, float* out) {
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  int64_t query = 0;
  for (const QueryTile& t : tiles) {
    for (int64_t j = 0; j < t.count; ++j, ++query) {
      const float* from = t.out + j * width_;
      if (item.parts == 1) {
        const auto [token, head] = place(item, query);
        float* to = out + ((sequence.row + token) * options_.heads + head) * dim_;
        const float inverse = 1.0f / t.sum[j];
        for (int64_t d = 0; d < dim_; ++d) to[d] = from[d] * inverse;
      } else {
        const int64_t row = index * kMostQueries + query;
        std::copy(from, from + width_, parts_out_.data() + row * width_);
        parts_state_[static_cast<size_t>(2 * row)] = t.best[j];
        parts_state_[static_cast<size_t>(2 * row + 1)] = t.sum[j];
      }
    }
  }
}

void PagedAttention::merge(int64_t index, float* out) {
  const Item& item = items_[static_cast<size_t>(index * parts_)];
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  for (int64_t query = 0; query < item.queries; ++query) {
    const auto row = [&](int64_t p) { return (index * parts_ + p) * kMostQueries + query; };
    float best = -std::numeric_limits<float>::infinity(), sum = 0;
    for (int64_t p = 0; p < parts_; ++p) {
      const float part = parts_state_[static_cast<size_t>(2 * row(p))];
      best = part > best || part != part ? part : best;
    }
    const auto [token, head] = place(item, query);
    float* to = out + ((sequence.row + token) * options_.heads + head) * dim_;
    std::fill(to, to + dim_, 0.0f);
    for (int64_t p = 0; p < parts_; ++p) {
      const float weight = std::exp(parts_state_[static_cast<size_t>(2 * row(p))] - best);
      sum += weight * parts_state_[static_cast<size_t>(2 * row(p) + 1)];
      const float* from = parts_out_.data() + row(p) * width_;
      for (int64_t d = 0; d < dim_; ++d) to[d] += weight * from[d];
    }
    for (int64_t d = 0; d < dim_; ++d) to[d] /= sum;
  }
}

}  // namespace deepseek::kernels
