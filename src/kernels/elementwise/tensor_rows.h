// Rows of tensors in f32 or bf16, so that each operation is written once.
#pragma once

#include <ATen/Config.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>

#include "kernels/elementwise/row.h"

#if AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "compile with OpenMP: without it at::parallel_for runs on one thread"
#endif

namespace deepseek::kernels {

/// Calls body with a typed null pointer: float* for f32, uint16_t* for bf16. Throws c10::Error for other types.
template <typename Body>
void with_element_type(const at::Tensor& x, Body&& body) {
  switch (x.scalar_type()) {
    case at::kFloat: body(static_cast<float*>(nullptr)); return;
    case at::kBFloat16: body(static_cast<uint16_t*>(nullptr)); return;
    default: TORCH_CHECK(false, "expected f32 or bf16, got ", x.scalar_type());
  }
}

template <typename T>
T* data_of(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

}  // namespace deepseek::kernels
