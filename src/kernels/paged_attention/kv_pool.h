// Keys and values of many sequences, in pages of 64 positions that all layers share, bf16 or int8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::kernels {

constexpr int64_t kPageTokens = 64;
constexpr int64_t kKeyTile = 16;  // positions side by side in a 512-bit register
constexpr int64_t kPageTiles = kPageTokens / kKeyTile;

enum class KvType { kBF16, kInt8 };
/// "bf16" or "int8". Errors: another name.
[[nodiscard]] base::Result<KvType> kv_type_named(const std::string& name);

/// A page holds, for one layer and head: keys as [4 tiles][dim / 2][16 positions][2] and values as [32][dim][2 positions], so that both
/// products of attention walk over memory in order. dim is padded to a multiple of 16 with zeros.
/// kInt8: the same order in bytes, a bf16 scale for each 32 dimensions of a key and of a value, so that one large dimension does not coarsen
/// all: [blocks][64 positions] of keys, then of values. That is 0.53 of the memory; a page becomes bf16 again when it is read, once for up to
/// 48 queries.
class KvPool {
 public:
  KvPool() = default;
  KvPool(KvPool&& other) noexcept;
  KvPool& operator=(KvPool&& other) noexcept;
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;
  ~KvPool();

  /// Reserves addresses for `pages`; memory is taken when a page is first written. Errors: no room for that many.
  /// `summaries`: with room for the mean and the variance of each tile of keys.
  [[nodiscard]] static base::Result<KvPool> create(int64_t layers, int64_t heads, int64_t head_dim, int64_t pages, KvType type = KvType::kBF16, bool summaries = false);

  /// A free page, or nothing where all are taken.
  [[nodiscard]] std::optional<int32_t> take();
  void give_back(int32_t page);
  [[nodiscard]] int64_t pages() const { return pages_; }
  [[nodiscard]] int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  /// Bytes of one position, and of one page, over all layers and heads: a key and a value.
  [[nodiscard]] static int64_t position_bytes(int64_t layers, int64_t heads, int64_t head_dim, KvType type = KvType::kBF16, bool summaries = false) {
    const int64_t both = type == KvType::kBF16 ? padded(head_dim) * 4 : padded(head_dim) * 2 + 4 * blocks(head_dim);
    return layers * heads * (both + (summaries ? padded(head_dim) * 4 / kKeyTile : 0));
  }
  [[nodiscard]] int64_t page_bytes() const { return kPageTokens * position_bytes(layers_, heads_, dim_, type_); }

  /// Rounds the key and the value of one position, [head_dim] f32 each, into `slot` of a page. Threads may store different slots at once.
  void store(int64_t layer, int64_t head, int32_t page, int64_t slot, const float* key, const float* value);

  /// A page of one layer and head in bf16: keys, and kPageTokens * width() further its values. kInt8 writes it to `scratch` of twice that,
  /// positions [begin, end) at least: what lies beyond may be anything.
  [[nodiscard]] const uint16_t* read(int64_t layer, int64_t head, int32_t page, int64_t begin, int64_t end, uint16_t* scratch) const;

  /// Of each tile of 16 keys of a full page, the mean of every dimension and after them half the variance of every dimension, bf16: [2 width() / 8][4 tiles][8].
  /// scratch as for read().
  void summarise(int64_t layer, int64_t head, int32_t page, uint16_t* scratch);
  [[nodiscard]] const uint16_t* summary(int64_t layer, int64_t head, int32_t page) const {
    return summaries_ + ((layer * pages_ + page) * heads_ + head) * kPageTiles * 2 * width_;
  }
  /// Where element d of 2 width() of a tile lies in its page's summary.
  [[nodiscard]] static int64_t summary_at(int64_t tile, int64_t d) { return d / 8 * 8 * kPageTiles + tile * 8 + d % 8; }
  [[nodiscard]] bool has_summaries() const { return summaries_ != nullptr; }
  [[nodiscard]] KvType type() const { return type_; }
  [[nodiscard]] int64_t heads() const { return heads_; }
  [[nodiscard]] int64_t head_dim() const { return dim_; }
  [[nodiscard]] int64_t width() const { return width_; }  ///< head_dim with its padding

 private:
  [[nodiscard]] static int64_t padded(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] static int64_t blocks(int64_t head_dim) { return (head_dim + 31) / 32; }
  [[nodiscard]] std::byte* place(int64_t layer, int64_t head, int32_t page) const {
    return memory_ + ((layer * pages_ + page) * heads_ + head) * kPageTokens * position_bytes(1, 1, dim_, type_);
  }
  KvType type_ = KvType::kBF16;
  int64_t layers_ = 0, heads_ = 0, dim_ = 0, width_ = 0, pages_ = 0;
  size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
  uint16_t* summaries_ = nullptr;
  std::vector<int32_t> free_;
};

}  // namespace deepseek::kernels
