#include "kernels/paged_attention/kv_pool.h"

#include <sys/mman.h>

#include <utility>

#include "kernels/simd.h"

namespace deepseek::kernels {

KvPool::KvPool(KvPool&& other) noexcept { *this = std::move(other); }

KvPool& KvPool::operator=(KvPool&& other) noexcept {
  std::swap(layers_, other.layers_);
  std::swap(heads_, other.heads_);
  std::swap(dim_, other.dim_);
  std::swap(width_, other.width_);
  std::swap(pages_, other.pages_);
  std::swap(bytes_, other.bytes_);
  std::swap(memory_, other.memory_);
  std::swap(free_, other.free_);
  return *this;
}

KvPool::~KvPool() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

base::Result<KvPool> KvPool::create(int64_t layers, int64_t heads, int64_t head_dim, int64_t pages) {
  KvPool pool;
  pool.layers_ = layers;
  pool.heads_ = heads;
  pool.dim_ = head_dim;
  pool.width_ = padded(head_dim);
  pool.pages_ = pages;
  pool.bytes_ = static_cast<size_t>(pool.page_bytes()) * static_cast<size_t>(pages);
  void* memory = ::mmap(nullptr, pool.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return base::fail("no room for the keys and values of {} tokens ({} MiB)", pages * kPageTokens, pool.bytes_ >> 20);
  pool.memory_ = static_cast<uint16_t*>(memory);
  for (int64_t p = pages; p-- > 0;) pool.free_.push_back(static_cast<int32_t>(p));
  return pool;
}

std::optional<int32_t> KvPool::take() {
  if (free_.empty()) return std::nullopt;
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void KvPool::give_back(int32_t page) { free_.push_back(page); }

void KvPool::store(int64_t layer, int64_t head, int32_t page, int64_t slot, const float* key, const float* value) {
  uint16_t* keys = memory_ + offset(layer, head, page) + slot / kKeyTile * kKeyTile * width_ + slot % kKeyTile * 2;
  uint16_t* values = memory_ + offset(layer, head, page) + kPageTokens * width_ + slot / 2 * 2 * width_ + slot % 2;
  for (int64_t d = 0; d < dim_; d += 2) {
    keys[d / 2 * 2 * kKeyTile] = f32_to_bf16(key[d]);
    if (d + 1 < dim_) keys[d / 2 * 2 * kKeyTile + 1] = f32_to_bf16(key[d + 1]);
  }
  for (int64_t d = 0; d < dim_; ++d) values[2 * d] = f32_to_bf16(value[d]);
}

}  // namespace deepseek::kernels
