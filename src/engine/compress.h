// A model in fewer bits: which type each matrix gets, rounding with the inputs it will meet, and what that costs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/calibration.h"
#include "engine/divergence.h"
#include "engine/language_model.h"

namespace deepseek::engine {

struct CompressOptions {
  /// "int4", "int8": blocks of 32 with an f16 scale (Q4_0, Q8_0); "bf16"; "q4_k": the mixture that llama.cpp calls Q4_K_M; "q8_0";
  /// "auto": for each matrix one of several types, as few bits as max_kl allows.
  std::string format;
  double max_kl = 0.02;                       ///< auto: nats a token, on the texts that it calibrates with
  bool calibrate = true;                      ///< round with the moments of inputs; types of 8 bits and more never need it
  TokenSequences texts;                       ///< to calibrate with; empty: the model writes its own
  TokenSequences held_out;                    ///< to measure with; empty: the model writes its own, other ones
  uint64_t seed = 0;
  int threads = 0;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> on_progress;
  std::function<bool()> stop_requested;
};

struct MatrixChoice {
  std::string module;       ///< "layers.3.mlp.down_proj"
  formats::DType type = formats::DType::kF32;
  uint64_t bytes = 0;
  double error = 0;         ///< share of its products' energy that rounding moves; with calibration only
  double kl = 0;            ///< auto: what it is expected to add to the divergence
};

struct Compression {
  uint64_t bytes_before = 0, bytes_after = 0;  ///< of all tensors
  std::vector<MatrixChoice> matrices;
  Divergence divergence;                       ///< of the written model, as it is loaded again, on the held-out texts
};

[[nodiscard]] const std::vector<std::string>& compress_formats();

/// Writes the model that was opened to `output` (models::save_tensors()). Errors: an unknown format, a type that GGUF has no name for, no
/// memory, a full disk, interrupted; nothing is left at `output` then.
[[nodiscard]] base::Result<Compression> compress(const models::ModelText& text, const base::fs::path& output, const CompressOptions& options);

}  // namespace deepseek::engine
