#include "models/adapter/tensors.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "base/random.h"
#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"

namespace deepseek::models {
namespace {

uint64_t seed_of(const std::string& name, uint64_t seed) {
  uint64_t hash = 0xCBF29CE484222325u ^ base::SplitMix64{seed}();
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001B3u;
  return hash;
}

}  // namespace

at::Tensor seeded_uniform(const std::vector<int64_t>& shape, double bound, const std::string& name, uint64_t seed) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  base::SplitMix64 random{seed_of(name, seed)};
  float* values = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] = static_cast<float>((static_cast<double>(random() >> 11) * 0x1p-52 - 1.0) * bound);
  }
  return tensor;
}

base::Status write_f32(const base::fs::path& path, const NamedTensors& tensors) {
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorToWrite> written;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    written.push_back({name, formats::DType::kF32, kept.back().sizes().vec(), {static_cast<const std::byte*>(kept.back().const_data_ptr()), kept.back().nbytes()}});
  }
  return formats::write_safetensors(path, written);
}

base::Result<std::vector<float>> read_f32(const formats::TensorInfo& info, const std::vector<int64_t>& shape) {
  if (auto same = formats::check_shape(info, shape); !same) return base::pass(same);
  if (auto finite = formats::check_finite(info); !finite) return base::pass(finite);
  std::vector<float> values(static_cast<size_t>(info.elements()));
  if (auto done = formats::dequantize(info, values); !done) return base::pass(done);
  return values;
}

at::Tensor tensor_of(const std::vector<float>& values, const std::vector<int64_t>& shape, const at::Tensor& beside) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor.to(beside.device());
}

}  // namespace deepseek::models
