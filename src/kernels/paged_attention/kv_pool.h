// Keys and values of many sequences, in pages of 64 positions that all layers share, bf16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"

namespace deepseek::kernels {

constexpr int64_t kPageTokens = 64;
constexpr int64_t kKeyTile = 16;  // positions side by side in a 512-bit register

/// A page holds, for one layer and head: keys as [4 tiles][dim / 2][16 positions][2] and values as [32][dim][2 positions], so that both
/// products of attention walk over memory in order. dim is padded to a multiple of 16 with zeros.
class KvPool {
 public:
  KvPool() = default;
  KvPool(KvPool&& other) noexcept;
  KvPool& operator=(KvPool&& other) noexcept;
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;
  ~KvPool();

  /// Reserves addresses for `pages`; memory is taken when a page is first written. Errors: no room for that many.
  [[nodiscard]] static base::Result<KvPool> create(int64_t layers, int64_t heads, int64_t head_dim, int64_t pages);

  /// A free page, or nothing where all are taken.
  [[nodiscard]] std::optional<int32_t> take();
  void give_back(int32_t page);
  [[nodiscard]] int64_t pages() const { return pages_; }
  [[nodiscard]] int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  /// Bytes of one position, and of one page, over all layers and heads: a key and a value in bf16.
  [[nodiscard]] static int64_t position_bytes(int64_t layers, int64_t heads, int64_t head_dim) { return layers * heads * padded(head_dim) * 4; }
  [[nodiscard]] int64_t page_bytes() const { return kPageTokens * position_bytes(layers_, heads_, dim_); }

  /// Rounds the key and the value of one position, [head_dim] f32 each, into `slot` of a page. Threads may store different slots at once.
  void store(int64_t layer, int64_t head, int32_t page, int64_t slot, const float* key, const float* value);

  [[nodiscard]] const uint16_t* keys(int64_t layer, int64_t head, int32_t page) const { return memory_ + offset(layer, head, page); }
  [[nodiscard]] const uint16_t* values(int64_t layer, int64_t head, int32_t page) const { return keys(layer, head, page) + kPageTokens * width_; }
  [[nodiscard]] int64_t heads() const { return heads_; }
  [[nodiscard]] int64_t head_dim() const { return dim_; }
  [[nodiscard]] int64_t width() const { return width_; }  ///< head_dim with its padding

 private:
  [[nodiscard]] static int64_t padded(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] int64_t offset(int64_t layer, int64_t head, int32_t page) const {
    return ((layer * pages_ + page) * heads_ + head) * 2 * kPageTokens * width_;
  }
  int64_t layers_ = 0, heads_ = 0, dim_ = 0, width_ = 0, pages_ = 0;
  size_t bytes_ = 0;
  uint16_t* memory_ = nullptr;
  std::vector<int32_t> free_;
};

}  // namespace deepseek::kernels
