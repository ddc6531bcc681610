#include "models/weights.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <mutex>

#include "formats/weights/convert.h"
#include "formats/weights/non_finite.h"

namespace deepseek::models {
namespace {

using base::Result;

Result<at::Tensor> converted(const formats::TensorInfo& info, at::ScalarType type) {
  at::Tensor out = at::empty(info.shape, type);
  const int64_t n = info.elements();
  constexpr int64_t kChunk = 1 << 16;  // a multiple of every block size
  base::Status status;
  std::mutex lock;
  at::parallel_for(0, (n + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer(kChunk);
    for (int64_t c = begin; c < end; ++c) {
      const int64_t at = c * kChunk, size = std::min(kChunk, n - at);
      float* to = type == at::kFloat ? out.mutable_data_ptr<float>() + at : buffer.data();
      if (auto done = formats::dequantize_range(info, at, {to, static_cast<size_t>(size)}); !done) {
        const std::lock_guard guard(lock);
        status = done;
        return;
      }
      if (type == at::kBFloat16) {
        formats::f32_to_bf16({buffer.data(), static_cast<size_t>(size)},
                             {static_cast<uint16_t*>(out.data_ptr()) + at, static_cast<size_t>(size)});
      }
    }
  });
  if (!status) return base::within(info.name, status.error());
  return out;
}

}  // namespace

Result<at::Tensor> read_weight(const formats::TensorInfo& info, const WeightOptions& options, const std::shared_ptr<const void>& owner,
                               const std::function<void(const formats::TensorInfo&)>& release) {
  if (options.check_weights) {
    if (auto finite = formats::check_finite(info); !finite) return base::pass(finite);
  }
  const bool same = (info.type == formats::DType::kF32 && options.dtype == at::kFloat) || (info.type == formats::DType::kBF16 && options.dtype == at::kBFloat16);
  if (same && options.device.is_cpu() && reinterpret_cast<uintptr_t>(info.bytes.data()) % 4 == 0) {
    // The map is private and read-only; nothing here writes to weights in place.
    return at::from_blob(const_cast<std::byte*>(info.bytes.data()), info.shape, [owner](void*) {}, at::TensorOptions().dtype(options.dtype));
  }
  auto tensor = converted(info, options.dtype);
  if (!tensor) return tensor;
  if (release) release(info);
  return tensor->to(options.device);
}

}  // namespace deepseek::models
