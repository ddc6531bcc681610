// Weights of a decoder from safetensors or GGUF.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <memory>

#include "base/files.h"
#include "models/decoder/decoder.h"
#include "models/weights.h"

namespace deepseek::models {

using DecoderLoadOptions = WeightOptions;

/// `path`: a Hugging Face directory or a .gguf file. Weights that have the asked type already stay in the memory map.
/// Errors: unknown architecture, missing tensor or shard, wrong shape, NaN.
[[nodiscard]] base::Result<std::unique_ptr<Decoder>> load_decoder(const base::fs::path& path, const DecoderLoadOptions& options = {});
/// The type in which a model's weights lose nothing: f32 where the file holds any matrix in f32, else bf16 (also for quantised and f16 ones).
[[nodiscard]] base::Result<at::ScalarType> stored_dtype(const base::fs::path& path);
/// Weights drawn from a seeded normal distribution: a model in shape only, for measuring.
[[nodiscard]] std::unique_ptr<Decoder> random_decoder(const DecoderConfig& config, const DecoderLoadOptions& options, uint64_t seed);

/// Each weight with the name it has in a Hugging Face checkpoint; the head only where it is not tied.
[[nodiscard]] std::vector<std::pair<std::string, at::Tensor>> named_weights(const Decoder& decoder);

}  // namespace deepseek::models
