// Finds NaN and infinity in weights before a model computes with them.
#pragma once

#include <cstdint>
#include <optional>

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

/// Index of the first element that is NaN or infinite, in row-major order; nullopt where all are finite.
/// A block type is judged by its floating-point scales and gives the first element of the block. Integers are finite.
[[nodiscard]] std::optional<int64_t> find_non_finite(const TensorInfo& info);

/// Fails with the tensor's name and the place of its first NaN or infinity.
[[nodiscard]] base::Status check_finite(const TensorInfo& info);

}  // namespace deepseek::formats
