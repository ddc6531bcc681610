// For tests: golden tensors that the scripts in tests/golden stored as safetensors.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "formats/weights/safetensors.h"

namespace deepseek::models {

class Golden {
 public:
  explicit Golden(const std::string& path) : file_(formats::SafeTensors::open(path)) {
    EXPECT_TRUE(file_) << (file_ ? "" : file_.error().message);
  }
  [[nodiscard]] bool has(const std::string& name) const { return file_ && file_->find(name) != nullptr; }
  [[nodiscard]] at::Tensor get(const std::string& name) const {
    const auto* info = file_->find(name);
    if (info == nullptr) {
      ADD_FAILURE() << "no golden tensor " << name;
      return at::empty({0});
    }
    at::Tensor tensor = at::empty(info->shape, info->type == formats::DType::kI64 ? at::kLong : at::kFloat);
    std::memcpy(tensor.data_ptr(), info->bytes.data(), info->bytes.size());
    return tensor;
  }
  [[nodiscard]] std::vector<int32_t> ids(const std::string& name) const {
    const at::Tensor tensor = get(name);
    const auto* data = tensor.const_data_ptr<int64_t>();
    return {data, data + tensor.numel()};
  }

 private:
  base::Result<formats::SafeTensors> file_;
};

/// Largest difference relative to the largest expected magnitude.
inline double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace deepseek::models
