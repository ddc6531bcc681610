#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>

#include "hardware/cpu.h"
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
  return f.avx512f && f.avx512bw && f.avx512vl && f.avx512_bf16 ? "" : "the processor has no AVX-512 BF16";
}

#if defined(__x86_64__)
constexpr int64_t kRowsFrom = 13;  // the speculation of engine/ checks 12 tokens together at most

std::string without_tiles() {
  if (!hardware::request_amx()) return "the kernel refused the tiles (arch_prctl)";
  return agrees_with_reference({"amx", nullptr, attend_page_amx, 1}) ? "" : "AMX gave wrong results in its self-check";
}

std::string without_amx() {
  if (!hardware::cpu().features.amx_bf16) return "the processor has no AMX bf16";
  if (std::string reason = without_avx512(); !reason.empty()) return reason;
  static const std::string reason = without_tiles();  // checked once
  return reason;
}
#endif

constexpr std::array kKernels{
#if defined(__x86_64__)
    AttentionKernel{"amx", without_amx, attend_page_amx, kRowsFrom},
    AttentionKernel{"avx512", without_avx512, attend_page_avx512},
    AttentionKernel{"avx2", without_avx2, attend_page_avx2},
#endif
    AttentionKernel{"reference", never, attend_page_reference},
};

constexpr int64_t kMostQueries = 4 * QueryTile::kMostSideBySide;
static_assert(kMostQueries % QueryTile::kMost == 0);
constexpr int64_t kFewestPagesOfPart = 4;  // below 256 keys joining costs more than it saves

// What one thread needs for an item; grows to the largest and stays.
struct Scratch {
  std::vector<uint16_t> q, page;
  std::vector<float> out;
};
Scratch& scratch_of_thread(int64_t width, KvType type) {
  thread_local Scratch scratch;
  if (type != KvType::kBF16 && scratch.page.size() < static_cast<size_t>(2 * kPageTokens * width)) scratch.page.resize(static_cast<size_t>(2 * kPageTokens * width));
  if (scratch.q.size() < static_cast<size_t>(kMostQueries * width)) {
    scratch.q.resize(static_cast<size_t>(kMostQueries * width));
    scratch.out.resize(static_cast<size_t>(kMostQueries * width));
  }
  return scratch;
}

}  // namespace

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

const AttentionKernel& choose_attention() {
  const auto chosen = choose_kernel(attention_kernels());
  return chosen ? **chosen : kKernels.back();  // a name of another list: the portable form
}

void PagedAttention::plan(std::span<const AttentionSequence> sequences, const KvPool& pool, const PagedAttentionOptions& options, int threads) {
  options_ = options;
  sequences_.assign(sequences.begin(), sequences.end());
  group_ = options.heads / pool.heads();
  dim_ = pool.head_dim();
  width_ = pool.width();
  items_.clear();
  merges_ = 0;
  for (size_t s = 0; s < sequences_.size(); ++s) {
    const auto& sequence = sequences_[s];
    const int64_t queries = sequence.count * group_;
    for (int64_t head = 0; head < pool.heads(); ++head) {
      for (int64_t at = 0; at < queries; at += kMostQueries) {
        const int64_t count = std::min(kMostQueries, queries - at);
        const int64_t first = sequence.begin + at / group_, last = sequence.begin + (at + count - 1) / group_;
        const int64_t oldest = options.window > 0 ? std::max<int64_t>(0, first - options.window + 1) : 0;
        items_.push_back({static_cast<int64_t>(s), head, at, count, oldest / kPageTokens, last / kPageTokens + 1, 0, 1});
      }
    }
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
  std::vector<Item>& items = items_;
  items.resize(static_cast<size_t>(whole * parts_));
  for (int64_t i = whole; i-- > 0;) {
    const Item item = items[static_cast<size_t>(i)];
    const int64_t pages = item.page_end - item.page_begin;
    for (int64_t p = 0; p < parts_; ++p) {
      Item& part = items[static_cast<size_t>(i * parts_ + p)] = item;
      part.page_begin = item.page_begin + pages * p / parts_;
      part.page_end = item.page_begin + pages * (p + 1) / parts_;
      part.part = p;
      part.parts = parts_;
    }
  }
  const auto rows = static_cast<size_t>(whole * parts_ * kMostQueries);
  if (parts_out_.size() < rows * static_cast<size_t>(width_)) parts_out_.resize(rows * static_cast<size_t>(width_));
  if (parts_state_.size() < rows * 2) parts_state_.resize(rows * 2);
}

void PagedAttention::run(int64_t index, const AttentionKernel& kernel, const KvPool& pool, int64_t layer, const float* q, float* out) {
  const Item& item = items_[static_cast<size_t>(index)];
  const AttentionSequence& sequence = sequences_[static_cast<size_t>(item.sequence)];
  const bool rows = kernel.rows_from > 0 && sequence.count >= kernel.rows_from;
  const int64_t most = rows ? QueryTile::kMost : QueryTile::kMostSideBySide;
  const int64_t tiles = (item.queries + most - 1) / most, stride = options_.heads * dim_;
  Scratch& scratch = scratch_of_thread(width_, pool.type());
  QueryTile tile[kTilesOfItem];
  for (int64_t i = 0; i < tiles; ++i) {
    QueryTile& t = tile[i];
    t.count = std::min(most, item.queries - i * most);
    t.rows = rows;
    uint16_t* packed = scratch.q.data() + i * most * width_;
    t.q = packed;
    t.out = scratch.out.data() + i * most * width_;
    std::fill(t.out, t.out + t.count * width_, 0.0f);
    for (int64_t j = 0; j < t.count; ++j) {
      const int64_t query = item.query + i * most + j, token = query / group_;
      const float* from = q + (sequence.row + token) * stride + (item.head * group_ + query % group_) * dim_;
      for (int64_t d = 0; d < width_; ++d) {
        packed[rows ? j * width_ + d : (d / 2 * t.count + j) * 2 + d % 2] = d < dim_ ? f32_to_bf16(from[d] * options_.scale) : uint16_t{0};
      }
      t.last[j] = sequence.begin + token;
      t.first[j] = options_.window > 0 ? std::max<int64_t>(0, t.last[j] - options_.window + 1) : 0;
      t.best[j] = -std::numeric_limits<float>::infinity();
      t.sum[j] = 0;
    }
  }
  for (int64_t p = item.page_begin; p < item.page_end; ++p) {
    // The positions that any of these queries sees.
    const int64_t first = p * kPageTokens, from = std::clamp<int64_t>(tile[0].first[0] - first, 0, kPageTokens);
    const int64_t to = std::clamp<int64_t>(tile[tiles - 1].last[tile[tiles - 1].count - 1] - first + 1, 0, kPageTokens);
    const uint16_t* keys = pool.read(layer, item.head, sequence.pages[static_cast<size_t>(p)], from, to, scratch.page.data());
    for (int64_t i = 0; i < tiles; ++i) kernel.page(keys, keys + kPageTokens * width_, width_, first, options_.softcap, tile[i]);
  }
  for (int64_t i = 0; i < tiles; ++i) {
    for (int64_t j = 0; j < tile[i].count; ++j) {
      const int64_t query = i * most + j;
      const float* from = tile[i].out + j * width_;
      if (item.parts == 1) {
        const int64_t at = item.query + query;
        float* to = out + (sequence.row + at / group_) * stride + (item.head * group_ + at % group_) * dim_;
        const float inverse = 1.0f / tile[i].sum[j];
        for (int64_t d = 0; d < dim_; ++d) to[d] = from[d] * inverse;
      } else {
        const int64_t row = index * kMostQueries + query;
        std::copy(from, from + width_, parts_out_.data() + row * width_);
        parts_state_[static_cast<size_t>(2 * row)] = tile[i].best[j];
        parts_state_[static_cast<size_t>(2 * row + 1)] = tile[i].sum[j];
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
    const int64_t at = item.query + query;
    float* to = out + (sequence.row + at / group_) * options_.heads * dim_ + (item.head * group_ + at % group_) * dim_;
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
