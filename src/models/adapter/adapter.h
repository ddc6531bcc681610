// PEFT adapters (LoRA, rsLoRA, DoRA) on a decoder: attach untrained ones, read, write, merge.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "models/adapter/config.h"
#include "models/adapter/tensors.h"
#include "models/decoder/decoder.h"

namespace deepseek::models {

/// Puts an untrained adapter on every module that the configuration names: A uniform as PEFT's Kaiming initialisation
/// (bound 1 / sqrt(in)), B zero, DoRA's magnitudes the norms of the weight's rows. The values depend on the seed and the
/// module's name alone. Errors: nothing matches, rank 0 or above a layer's size, a broken pattern.
[[nodiscard]] base::Status attach_adapter(Decoder& decoder, const AdapterConfig& config, uint64_t seed);

/// Reads a directory that PEFT or write_adapter() wrote and puts it on the decoder. Errors: a kind of adapter that is not
/// LoRA, DoRA or rsLoRA, tensors that are missing, too many, of a wrong shape or not finite.
[[nodiscard]] base::Result<AdapterConfig> read_adapter(Decoder& decoder, const base::fs::path& directory);

/// Writes adapter_config.json and adapter_model.safetensors, each atomically, the weights last.
[[nodiscard]] base::Status write_adapter(const Decoder& decoder, const AdapterConfig& config, const base::fs::path& directory);

/// The adapter's tensors under PEFT's names, in the order of the layers.
[[nodiscard]] NamedTensors adapter_tensors(const Decoder& decoder);

/// Adds every adapter to its weight and removes it. Bytes of the base weights that were mapped from a file are copied.
void merge_adapter(Decoder& decoder);

/// All linear layers of a decoder, in order.
[[nodiscard]] std::vector<nn::Linear*> linear_layers(Decoder& decoder);
[[nodiscard]] std::vector<const nn::Linear*> linear_layers(const Decoder& decoder);

}  // namespace deepseek::models
