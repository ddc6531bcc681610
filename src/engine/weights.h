// A decoder's weights as the engine's kernels read them.
#pragma once

#include <memory>
#include <vector>

#include "hardware/team.h"
#include "kernels/quant_matmul/packed.h"
#include "models/adapter/adapter_file.h"
#include "models/decoder/checkpoint.h"

namespace deepseek::engine {

/// y = w x + bias
struct PackedLinear {
  kernels::PackedMatrix weight;
  std::vector<float> bias;  ///< empty: none
};

/// Norms hold the whole factor (Gemma's 1 included); those that the family lacks are empty.
struct PackedLayer {
  PackedLinear q, k, v, o, gate, up, down;
  std::vector<float> input_norm, post_attention_norm, pre_feedforward_norm, post_feedforward_norm, q_norm, k_norm;
};

struct PackedWeights {
  models::DecoderConfig config;
  kernels::PackedMatrix embedding;  ///< [vocab, hidden]
  kernels::PackedMatrix own_head;   ///< where it is not the embedding
  std::vector<float> final_norm;
  std::vector<PackedLayer> layers;

  [[nodiscard]] const kernels::PackedMatrix& head() const { return config.tie_word_embeddings ? embedding : own_head; }
  /// Bytes of all matrices.
  [[nodiscard]] uint64_t bytes() const;
  /// All matrices, in the order of the cache.
  [[nodiscard]] std::vector<const kernels::PackedMatrix*> matrices() const;
  [[nodiscard]] std::vector<kernels::PackedMatrix*> matrices();

  hardware::HugeMemory memory;      ///< where they lie when they came from a cache
};

/// kStored: GGUF's integer types at their exact values (Q2_K and Q3_K, which have no kernel, as bf16), bf16 and f16 as bf16, f32 as f32.
/// kFloats: the same with integers as bf16. Matrices alone: norms and biases are always f32.
enum class PackAs { kStored, kFloats, kBF16, kF32 };
/// "auto" (kStored), "bf16" or "f32".
[[nodiscard]] base::Result<PackAs> pack_as(const std::string& dtype);

struct PackOptions {
  bool check_weights = true;  ///< refuse NaN and infinity; weights from a cache were checked when it was made
  PackAs as = PackAs::kStored;
  base::fs::path adapter;     ///< a PEFT adapter's directory: merged into the matrices that it names, integers among them as bf16
  bool cache = false;         ///< read what an earlier start packed, or keep it for the next (weight_cache.h); failing to keep it is only
                              ///< logged. Only kStored without an adapter is kept.
  uint64_t smallest_cache = uint64_t{32} << 20;  ///< bytes; fewer are packed again faster than a user notices
};

/// Packs a file's weights. Errors: as DecoderCheckpoint::open() and models::read_adapter_file(), NaN or infinity among the weights, not
/// enough memory.
[[nodiscard]] base::Result<PackedWeights> pack_checkpoint(const models::DecoderCheckpoint& checkpoint, hardware::Team& team,
                                                          const PackOptions& options = {});

}  // namespace deepseek::engine
