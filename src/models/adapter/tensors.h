// First values and files of trained tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "formats/weights/tensor_file.h"

namespace deepseek::models {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Uniform in [-bound, bound), f32; the values depend on the seed and the name alone.
[[nodiscard]] at::Tensor seeded_uniform(const std::vector<int64_t>& shape, double bound, const std::string& name, uint64_t seed);

/// One safetensors file, atomically, all tensors as f32.
[[nodiscard]] base::Status write_f32(const base::fs::path& path, const NamedTensors& tensors);

/// The values of a file's tensor as f32. Errors: another shape, values that are not finite.
[[nodiscard]] base::Result<std::vector<float>> read_f32(const formats::TensorInfo& info, const std::vector<int64_t>& shape);

/// The same, as a tensor beside another.
[[nodiscard]] at::Tensor tensor_of(const std::vector<float>& values, const std::vector<int64_t>& shape, const at::Tensor& beside);

}  // namespace deepseek::models
