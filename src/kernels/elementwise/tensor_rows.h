// Rows of tensors in f32 or bf16, so that each operation is written once.
#pragma once

#include <ATen/Config.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
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

/// `count` f32 or bf16 numbers, not set, in memory of 64-byte alignment: a vector of 512 bits that crosses two lines of a cache is two reads.
inline at::Tensor aligned_numbers(int64_t count, at::ScalarType type) { return at::empty({count}, type); }

/// Rows [first, first + count) of x [..., dim], contiguous, in f32 with `width` columns, zeros behind dim.
inline void load_rows(const at::Tensor& x, int64_t first, int64_t count, int64_t width, float* to) {
  const int64_t dim = x.size(-1);
  with_element_type(x, [&](auto* type) {
    for (int64_t r = 0; r < count; ++r) {
      load_row(data_of<std::remove_pointer_t<decltype(type)>>(x) + (first + r) * dim, to + r * width, dim);
      std::fill(to + r * width + dim, to + (r + 1) * width, 0.0f);
    }
  });
}

/// The same of bf16 rows as they are.
inline void copy_rows(const at::Tensor& x, int64_t first, int64_t count, int64_t width, uint16_t* to) {
  const int64_t dim = x.size(-1);
  for (int64_t r = 0; r < count; ++r) {
    const uint16_t* row = data_of<uint16_t>(x) + (first + r) * dim;
    std::fill(std::copy(row, row + dim, to + r * width), to + (r + 1) * width, uint16_t{0});
  }
}

/// The reverse of load_rows, rounding to the type of x.
inline void store_rows(const float* from, int64_t width, int64_t first, int64_t count, const at::Tensor& x) {
  with_element_type(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t r = 0; r < count; ++r) store_row(from + r * width, data_of<T>(x) + (first + r) * x.size(-1), x.size(-1));
  });
}

}  // namespace deepseek::kernels
