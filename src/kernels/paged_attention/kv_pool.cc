#include "kernels/paged_attention/kv_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kBlock = 32;  // dimensions that share a scale

// Where the first elements of a position's key and value lie in a page, and how far the next pair of a key is.
int64_t key_at(int64_t slot, int64_t width) { return slot / kKeyTile * kKeyTile * width + slot % kKeyTile * 2; }
int64_t value_at(int64_t slot, int64_t width) { return kPageTokens * width + slot / 2 * 2 * width + slot % 2; }
constexpr int64_t kKeyPair = 2 * kKeyTile;

// Dimensions [begin, end) of a position; begin is even.
template <typename T, typename Convert>
void store_key(T* page, int64_t slot, int64_t width, const float* key, int64_t begin, int64_t end, const Convert& convert) {
  T* to = page + key_at(slot, width);
  for (int64_t d = begin; d < end; d += 2) {
    to[d / 2 * kKeyPair] = convert(key[d]);
    if (d + 1 < end) to[d / 2 * kKeyPair + 1] = convert(key[d + 1]);
  }
}

template <typename T, typename Convert>
void store_value(T* page, int64_t slot, int64_t width, const float* value, int64_t begin, int64_t end, const Convert& convert) {
  T* to = page + value_at(slot, width);
  for (int64_t d = begin; d < end; ++d) to[2 * d] = convert(value[d]);
}

// One step of the integers of x, rounded up to bf16 so that none exceeds 127 by more than a rounding. NaN where x is not finite: what reads it becomes NaN too, as in
// bf16.
uint16_t scale_of(const float* x, int64_t n) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::abs(x[i]));
  }
  return finite ? static_cast<uint16_t>((std::bit_cast<uint32_t>(largest / 127.0f) + 0xFFFFu) >> 16) : uint16_t{0x7FC0};
}

struct ToInt8 {
  float inverse;
  explicit ToInt8(uint16_t scale) : inverse(1.0f / bf16_to_f32(scale)) {
    if (!std::isfinite(inverse)) inverse = 0;  // all zeros, all denormal, or not finite
  }
  int8_t operator()(float value) const {
    const float steps = value * inverse;  // the largest may be 127 and a rounding
    return std::isfinite(steps) ? static_cast<int8_t>(std::nearbyint(std::clamp(steps, -127.0f, 127.0f))) : int8_t{0};
  }
};

// bf16 of q * scale, rounded half away from zero: a tie costs no accuracy, and this is two instructions less. A NaN of scale_of() stays one.
inline uint16_t scaled_bf16(int8_t q, float scale) {
  return static_cast<uint16_t>((std::bit_cast<uint32_t>(static_cast<float>(q) * scale) + 0x8000u) >> 16);
}

// Of 16 keys of two dimensions each, [16][2], the means and half the variances.
DEEPSEEK_VECTOR_CLONES void moments(const uint16_t* keys, float (&mean)[2], float (&half_variance)[2]) {
  float x[32], sum[2] = {}, squares[2] = {};
  for (int64_t i = 0; i < 32; ++i) x[i] = bf16_to_f32(keys[i]);
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 2; ++j) sum[j] += x[2 * i + j];
  }
  for (int64_t j = 0; j < 2; ++j) mean[j] = sum[j] / 16.0f;
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 2; ++j) squares[j] += (x[2 * i + j] - mean[j]) * (x[2 * i + j] - mean[j]);
  }
  for (int64_t j = 0; j < 2; ++j) half_variance[j] = squares[j] / 32.0f;
}

// Rows of 32 elements, each with its own of 32 scales.
DEEPSEEK_VECTOR_CLONES void expand_rows(const int8_t* from, const float* scales, int64_t rows, uint16_t* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < 32; ++i) to[32 * r + i] = scaled_bf16(from[32 * r + i], scales[i]);
  }
}

}  // namespace

base::Result<KvType> kv_type_named(const std::string& name) {
  if (name == "bf16") return KvType::kBF16;
  if (name == "int8") return KvType::kInt8;
  return base::refuse("keys and values in '{}' are unknown; use bf16 or int8", name);
}

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
  std::swap(summaries_, other.summaries_);
  std::swap(free_, other.free_);
  return *this;
}

KvPool::~KvPool() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

base::Result<KvPool> KvPool::create(int64_t layers, int64_t heads, int64_t head_dim, int64_t pages, KvType type, bool summaries) {
  KvPool pool;
  pool.type_ = type;
  pool.layers_ = layers;
  pool.heads_ = heads;
  pool.dim_ = head_dim;
  pool.width_ = padded(head_dim);
  pool.pages_ = pages;
  const size_t keys = static_cast<size_t>(pool.page_bytes()) * static_cast<size_t>(pages);
  pool.bytes_ = keys + (summaries ? static_cast<size_t>(layers * heads * pages * kPageTiles * 2 * pool.width_) * sizeof(uint16_t) : 0);
  void* memory = ::mmap(nullptr, pool.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return base::fail("no room for the keys and values of {} tokens ({} MiB)", pages * kPageTokens, pool.bytes_ >> 20);
  pool.memory_ = static_cast<std::byte*>(memory);
  if (summaries) pool.summaries_ = reinterpret_cast<uint16_t*>(pool.memory_ + keys);
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
    store_key(reinterpret_cast<uint16_t*>(at), slot, width_, key, 0, dim_, f32_to_bf16);
    store_value(reinterpret_cast<uint16_t*>(at), slot, width_, value, 0, dim_, f32_to_bf16);
    return;
  }
  auto* elements = reinterpret_cast<int8_t*>(at);
  auto* key_scales = reinterpret_cast<uint16_t*>(at + 2 * kPageTokens * width_) + slot;
  auto* value_scales = key_scales + blocks(dim_) * kPageTokens;
  for (int64_t begin = 0; begin < dim_; begin += kBlock, key_scales += kPageTokens, value_scales += kPageTokens) {
    const int64_t end = std::min(begin + kBlock, dim_);
    *key_scales = scale_of(key + begin, end - begin);
    *value_scales = scale_of(value + begin, end - begin);
    store_key(elements, slot, width_, key, begin, end, ToInt8(*key_scales));
    store_value(elements, slot, width_, value, begin, end, ToInt8(*value_scales));
  }
}

const uint16_t* KvPool::read(int64_t layer, int64_t head, int32_t page, int64_t begin, int64_t end, uint16_t* scratch) const {
  const std::byte* at = place(layer, head, page);
  if (type_ == KvType::kBF16) return reinterpret_cast<const uint16_t*>(at);
  const auto* from = reinterpret_cast<const int8_t*>(at);
  const auto* key_scales = reinterpret_cast<const uint16_t*>(at + 2 * kPageTokens * width_);
  for (int64_t block = 0; block < blocks(dim_); ++block) {
    const int64_t d = block * kBlock, dims = std::min(kBlock, width_ - d);
    const uint16_t *keys = key_scales + block * kPageTokens, *values = keys + blocks(dim_) * kPageTokens;
    float row[32];
    for (int64_t slot = begin / kKeyTile * kKeyTile; slot < end; slot += kKeyTile) {
      for (int64_t i = 0; i < 32; ++i) row[i] = bf16_to_f32(keys[slot + i / 2]);
      const int64_t place = key_at(slot, width_) + d / 2 * kKeyPair;
      expand_rows(from + place, row, dims / 2, scratch + place);
    }
    for (int64_t slot = begin / 2 * 2; slot < end; slot += 2) {
      for (int64_t i = 0; i < 32; ++i) row[i] = bf16_to_f32(values[slot + i % 2]);
      const int64_t place = value_at(slot, width_) + 2 * d;
      expand_rows(from + place, row, dims / 16, scratch + place);
    }
  }
  return scratch;
}

void KvPool::summarise(int64_t layer, int64_t head, int32_t page, uint16_t* scratch) {
  const uint16_t* keys = read(layer, head, page, 0, kPageTokens, scratch);
  uint16_t* to = summaries_ + (summary(layer, head, page) - summaries_);
  for (int64_t tile = 0; tile < kPageTiles; ++tile) {
    for (int64_t d = 0; d < width_; d += 2) {
      float mean[2], half_variance[2];
      moments(keys + tile * kKeyTile * width_ + d * kKeyTile, mean, half_variance);
      for (int64_t j = 0; j < 2; ++j) {
        to[summary_at(tile, d + j)] = f32_to_bf16(mean[j]);
        to[summary_at(tile, width_ + d + j)] = f32_to_bf16(half_variance[j]);
      }
    }
  }
}

}  // namespace deepseek::kernels
