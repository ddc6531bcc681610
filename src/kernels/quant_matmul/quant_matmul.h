// y = x w^T with packed weights. Integer weights meet activations that are rounded to int8 by blocks of 32 columns; bf16 weights
// meet bf16 activations, f32 f32; sums are int32 inside a block and f32 above. What a token gives does not depend on how many are multiplied
// together, and amx and avx512 give the same bits for integers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/quant_matmul/packed.h"

namespace deepseek::kernels {

/// Activations as the kernels read them: tokens in groups of width(), interleaved, so that one pointer walks over all of a group.
class PackedRows {
 public:
  static constexpr int64_t kMostWidth = 12;  // 12 int32 and 12 f32 accumulators fill 24 of 32 registers
  enum class Kind { kInt8, kBF16, kF32 };
  /// That of the weights; bf16 ones meet f32 where AVX-512 multiplies those faster (bf16_products_pay()).
  [[nodiscard]] static Kind kind_for(const PackedFormat& format);
  [[nodiscard]] static Kind kind_of_weights(const PackedFormat& format);

  /// Room for `tokens` rows of `columns` in groups of at most `most` (f32: kMostWidth); memory is kept and only grows.
  void resize(Kind kind, int64_t tokens, int64_t columns, int64_t most = kMostWidth);
  /// Rounds one row, x: [columns] f32. Rows may be set by several threads at once. int8: a block is x / (max|x| / 127), to nearest
  /// even; a block with NaN or infinity gives NaN in every product.
  void set(int64_t token, const float* x);

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] int64_t tokens() const { return tokens_; }
  [[nodiscard]] int64_t columns() const { return columns_; }
  [[nodiscard]] int64_t blocks() const { return blocks_; }
  [[nodiscard]] int64_t width() const { return width_; }
  [[nodiscard]] int64_t groups() const { return (tokens_ + width_ - 1) / width_; }
  /// Group g: int8 [columns / 4][width][4], bf16 [columns / 2][width][2], f32 [columns][width].
  [[nodiscard]] const uint8_t* values(int64_t group) const { return values_.data() + group * group_bytes_; }
  [[nodiscard]] uint8_t* values(int64_t group) { return values_.data() + group * group_bytes_; }
  /// int8 only. [blocks][width]: what one unit of a block is worth.
  [[nodiscard]] const float* units(int64_t group) const { return units_.data() + group * blocks_ * width_; }
  /// int8 only. [blocks][width]: -128 times the sum of a block, the start of an accumulator for weights with zero = 128.
  [[nodiscard]] const int32_t* starts(int64_t group) const { return starts_.data() + group * blocks_ * width_; }
  /// int8 only. [2 * blocks][width]: the same for 16 columns.
  [[nodiscard]] const int32_t* half_starts(int64_t group) const { return half_starts_.data() + group * 2 * blocks_ * width_; }
  /// int8 only. [blocks][width]: the sum of a block as f32, which multiplies mins.
  [[nodiscard]] const float* sums(int64_t group) const { return sums_.data() + group * blocks_ * width_; }
  /// The value that takes part in products.
  [[nodiscard]] float value(int64_t token, int64_t column) const;

 private:
  void set_int8(int64_t token, const float* x);
  Kind kind_ = Kind::kF32;
  int64_t tokens_ = 0, columns_ = 0, blocks_ = 0, width_ = 1, group_bytes_ = 0;
  std::vector<uint8_t> values_;
  std::vector<float> units_, sums_;
  std::vector<int32_t> starts_, half_starts_;
};

/// A way to multiply. The list is in order of preference, the reference last.
struct MatmulKernel {
  const char* name;  ///< "amx", "avx512", "avx2", "reference"
  /// Empty, or why it does not run here: "the processor has no AVX-512 VNNI".
  std::string (*declines)(const PackedFormat& format);
  /// Rows [16 * begin, 16 * end) of w for every token: out[token * stride + row], f32. scratch: scratch_bytes() of one thread.
  void (*multiply)(const PackedMatrix& w, const PackedRows& x, int64_t begin, int64_t end, float* out, int64_t stride, uint8_t* scratch);
  int64_t width = PackedRows::kMostWidth;  ///< of the widest groups of tokens that it takes, and likes best
};
[[nodiscard]] std::span<const MatmulKernel> matmul_kernels();
/// The first that does not decline; DEEPSEEK_FORCE_KERNEL=name picks one. Errors: an unknown name, one that declines.
[[nodiscard]] base::Result<const MatmulKernel*> choose_matmul(const PackedFormat& format);

/// Bytes, 64-byte aligned, that one thread needs to multiply by w.
[[nodiscard]] int64_t matmul_scratch_bytes(const PackedMatrix& w);

}  // namespace deepseek::kernels
