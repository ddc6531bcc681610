// The parts of GGUF's block types, for those who multiply by the integers themselves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/weights/tensor_file.h"

namespace deepseek::formats {

/// One block. Simple types (32 values): d * (q - zero), or d * q + dmin for Q4_1 and Q5_1. Q4_K, Q5_K (256): d * scales[i] * q -
/// dmin * mins[i] for each 32; Q6_K (256): d * scales[i] * (q - zero) for each 16. zero is half the range of q.
struct QuantFields {
  uint8_t q[256];
  uint16_t d = 0, dmin = 0;  ///< f16 bits
  int8_t scales[16] = {}, mins[16] = {};
};

/// True for Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K.
[[nodiscard]] bool has_quant_fields(DType type);
/// `block`: block_size(type).bytes bytes.
void read_quant_fields(DType type, const std::byte* block, QuantFields& out);
/// The inverse.
void write_quant_fields(DType type, const QuantFields& fields, std::byte* block);

}  // namespace deepseek::formats
