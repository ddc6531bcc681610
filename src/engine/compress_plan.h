// The matrices of a decoder and the types that a format gives them. Private to this folder.
#pragma once

#include <string>
#include <vector>

#include "engine/fused_model.h"
#include "models/decoder/checkpoint.h"

namespace deepseek::engine {

/// One matrix; a list of them is in the order of PackedWeights::matrices().
struct MatrixPlace {
  std::string module;   ///< "embed_tokens", "lm_head", "self_attn.q_proj"
  int64_t layer = -1;
  FusedModel::Input input = FusedModel::Input::kHead;
  int group = 0;        ///< matrices that auto gives the same type: 0 head and embedding, then attention and feed-forward of each layer
  int64_t rows = 0, columns = 0, heads = 0;  ///< heads: models::DecoderCheckpoint::interleaved_heads()
  const formats::TensorInfo* info = nullptr;
  [[nodiscard]] std::string name() const;
};
[[nodiscard]] base::Result<std::vector<MatrixPlace>> matrix_places(const models::DecoderCheckpoint& checkpoint);

/// Bytes of a matrix in a type.
[[nodiscard]] uint64_t bytes_in(const MatrixPlace& place, formats::DType type);
/// True where the type's blocks fill the columns.
[[nodiscard]] bool fits(const MatrixPlace& place, formats::DType type);

/// The type, or bf16 where its blocks do not fill the columns.
[[nodiscard]] formats::DType filled(const MatrixPlace& place, formats::DType type);

/// The type of each matrix for a format other than auto; a type whose blocks do not fill the columns gives way to the next that does.
[[nodiscard]] std::vector<formats::DType> types_for(const std::string& format, const std::vector<MatrixPlace>& places);

/// auto: what is known of a type for a group.
struct Candidate {
  formats::DType type;
  uint64_t bytes = 0;
  double kl = 0;
};
/// One candidate for each group so that the sum of kl is at most max_kl and few bytes are spent: from the fewest bytes on, always the
/// step that saves most divergence a byte. Where nothing reaches max_kl, the least divergence.
[[nodiscard]] std::vector<size_t> choose_candidates(const std::vector<std::vector<Candidate>>& groups, double max_kl);

}  // namespace deepseek::engine
