#include "kernels/paged_attention/kv_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

// Where the first elements of a position's key and value lie in a page, and how far the next pair of a key is.
int64_t key_at(int64_t slot, int64_t width) { return slot / kKeyTile * kKeyTile * width + slot % kKeyTile * 2; }
int64_t value_at(int64_t slot, int64_t width) { return kPageTokens * width + slot / 2 * 2 * width + slot % 2; }
constexpr int64_t kKeyPair = 2 * kKeyTile;

template <typename T, typename Convert>
void store_position(T* page, int64_t slot, int64_t dim, int64_t width, const float* key, const float* value, const Convert& key_of, const Convert& value_of) {
  T *keys = page + key_at(slot, width), *values = page + value_at(slot, width);
  for (int64_t d = 0; d < dim; d += 2) {
    keys[d / 2 * kKeyPair] = key_of(key[d]);
    if (d + 1 < dim) keys[d / 2 * kKeyPair + 1] = key_of(key[d + 1]);
  }
  for (int64_t d = 0; d < dim; ++d) values[2 * d] = value_of(value[d]);
}

// One step of the integers of x. NaN where x is not finite: the sequence's results become NaN, as they do in bf16.
float scale_of(const float* x, int64_t n) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::abs(x[i]));
  }
  return finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

struct ToInt8 {
  float inverse;
  explicit ToInt8(float scale) : inverse(scale > 0 ? 1.0f / scale : 0.0f) {}
  int8_t operator()(float value) const { return scale_is_sound() ? static_cast<int8_t>(std::clamp(std::nearbyint(value * inverse), -127.0f, 127.0f)) : int8_t{0}; }
  [[nodiscard]] bool scale_is_sound() const { return inverse > 0 && std::isfinite(inverse); }
};

// bf16 of q * scale, rounded half away from zero: a tie costs no accuracy, and this is two instructions less. A NaN of scale_of() stays one.
inline uint16_t scaled_bf16(int8_t q, float scale) {
  return static_cast<uint16_t>((std::bit_cast<uint32_t>(static_cast<float>(q) * scale) + 0x8000u) >> 16);
}

// Rows of 32 elements, each with its own of 32 scales.
DEEPSEEK_VECTOR_CLONES void expand_rows(const int8_t* from, const float* scales, int64_t rows, uint16_t* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < 32; ++i) to[32 * r + i] = scaled_bf16(from[32 * r + i], scales[i]);
  }
}

}  // namespace

KvPool::KvPool(KvPool&& other) noexcept { *this = std::move(other); }

KvPool& KvPool::operator=(KvPool&& other) noexcept {
  std::swap(type_, other.type_);
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

base::Result<KvPool> KvPool::create(int64_t layers, int64_t heads, int64_t head_dim, int64_t pages, KvType type) {
  KvPool pool;
  pool.type_ = type;
  pool.layers_ = layers;
  pool.heads_ = heads;
  pool.dim_ = head_dim;
  pool.width_ = padded(head_dim);
  pool.pages_ = pages;
  pool.bytes_ = static_cast<size_t>(pool.page_bytes()) * static_cast<size_t>(pages);
  void* memory = ::mmap(nullptr, pool.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return base::fail("no room for the keys and values of {} tokens ({} MiB)", pages * kPageTokens, pool.bytes_ >> 20);
  pool.memory_ = static_cast<std::byte*>(memory);
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
  std::byte* at = place(layer, head, page);
  if (type_ == KvType::kBF16) {
    return store_position(reinterpret_cast<uint16_t*>(at), slot, dim_, width_, key, value, f32_to_bf16, f32_to_bf16);
  }
  auto* scales = reinterpret_cast<float*>(at + 2 * kPageTokens * width_);
  scales[slot] = scale_of(key, dim_);
  scales[kPageTokens + slot] = scale_of(value, dim_);
  store_position(reinterpret_cast<int8_t*>(at), slot, dim_, width_, key, value, ToInt8(scales[slot]), ToInt8(scales[kPageTokens + slot]));
}

const uint16_t* KvPool::read(int64_t layer, int64_t head, int32_t page, int64_t begin, int64_t end, uint16_t* scratch) const {
  const std::byte* at = place(layer, head, page);
  if (type_ == KvType::kBF16) return reinterpret_cast<const uint16_t*>(at);
  const auto* from = reinterpret_cast<const int8_t*>(at);
  const auto* scales = reinterpret_cast<const float*>(at + 2 * kPageTokens * width_);
  float row[32];
  for (int64_t slot = begin / kKeyTile * kKeyTile; slot < end; slot += kKeyTile) {
    for (int64_t i = 0; i < 32; ++i) row[i] = scales[slot + i / 2];
    const int64_t tile = key_at(slot, width_);
    expand_rows(from + tile, row, width_ / 2, scratch + tile);
  }
  for (int64_t slot = begin / 2 * 2; slot < end; slot += 2) {
    for (int64_t i = 0; i < 32; ++i) row[i] = scales[kPageTokens + slot + i % 2];
    const int64_t pair = value_at(slot, width_);
    expand_rows(from + pair, row, width_ / 16, scratch + pair);
  }
  return scratch;
}

}  // namespace deepseek::kernels
