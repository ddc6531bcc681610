// One tensor of a weights file as libtorch has it: in the memory map where its type is the asked one, else converted.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "formats/weights/tensor_file.h"

namespace deepseek::models {

struct WeightOptions {
  at::ScalarType dtype = at::kFloat;  ///< f32 or bf16
  at::Device device = at::kCPU;
  bool check_weights = true;          ///< refuse NaN and infinity, naming the tensor
};

/// `owner` keeps the map alive that info.bytes lie in. release: told of a tensor whose pages will not be read again; may be empty.
/// Errors: NaN or infinity where they are looked for, a type that holds no numbers.
[[nodiscard]] base::Result<at::Tensor> read_weight(const formats::TensorInfo& info, const WeightOptions& options,
                                                   const std::shared_ptr<const void>& owner,
                                                   const std::function<void(const formats::TensorInfo&)>& release = {});

}  // namespace deepseek::models
