// Rounding to GGUF's block types: for each block the grid with the least weighted squared error, then the nearest levels.
#pragma once

#include <cstddef>
#include <span>

#include "formats/weights/quant_fields.h"

namespace deepseek::formats {

/// The values that the elements of one block may take: offset[i / run] + step[i / run] * q, 0 <= q <= top.
struct BlockGrid {
  QuantFields fields;  ///< all but q
  float step[16], offset[16];
  int run = 32, top = 15;

  /// The nearest level; 0 where the step is 0.
  [[nodiscard]] uint8_t level(int64_t i, float value) const;
  [[nodiscard]] float value(int64_t i, uint8_t q) const { return offset[i / run] + step[i / run] * static_cast<float>(q); }
};

/// values, importance: block_size(type).elements each; `importance` weighs squared errors and is not negative. `type` has quant fields
/// (quant_fields.h). Deterministic, the same bits on every CPU. Values beyond what f16 scales reach become the largest there is.
[[nodiscard]] BlockGrid choose_grid(DType type, const float* values, const float* importance);

/// A whole row: values.size() a multiple of the block, importance of the same length or empty (all alike), out.size() its bytes.
void quantize_row(DType type, std::span<const float> values, std::span<const float> importance, std::span<std::byte> out);

}  // namespace deepseek::formats
