// A decoder's weights as the engine's kernels read them.
#pragma once

#include <memory>
#include <vector>

#include "hardware/team.h"
#include "kernels/quant_matmul/packed.h"
#include "models/decoder/checkpoint.h"
#include "models/decoder/decoder.h"

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

struct PackOptions {
  bool check_weights = true;  ///< refuse NaN and infinity; weights from a cache were checked when it was made
  bool plain = false;         ///< integer types as bf16 too; never from a cache
  bool cache = false;         ///< read what an earlier start packed, or keep it for the next (weight_cache.h); failing to keep it is only logged
  uint64_t smallest_cache = uint64_t{32} << 20;  ///< bytes; fewer are packed again faster than a user notices
};

/// Packs a file's weights: GGUF's integer types at their exact values (Q2_K and Q3_K, which have no kernel, as bf16), bf16 and f16 as
/// bf16, f32 as f32. Errors: as DecoderCheckpoint::open(), NaN or infinity among the weights, not enough memory.
[[nodiscard]] base::Result<PackedWeights> pack_checkpoint(const models::DecoderCheckpoint& checkpoint, hardware::Team& team,
                                                          const PackOptions& options = {});
/// Packs a decoder in its own type, a LoRA in it merged.
[[nodiscard]] base::Result<PackedWeights> pack_decoder(const models::Decoder& decoder, hardware::Team& team);

}  // namespace deepseek::engine
