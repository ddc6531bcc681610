// What a PEFT adapter adds to each matrix of a model, read from its files. Without libtorch.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/adapter/config.h"
#include "models/adapter/matching.h"

namespace deepseek::models {

/// W becomes W + scale B A; with DoRA's magnitudes m each row of that is scaled to the length m.
struct AdapterPart {
  int64_t rank = 0;
  double scale = 0;
  std::vector<float> a;          ///< [rank][in]
  std::vector<float> b;          ///< [out][rank]
  std::vector<float> magnitude;  ///< [out]; empty: no DoRA

  /// Merges row `row` of W, [in] f32, in place.
  void merge_row(int64_t row, std::span<float> weights) const;
};

struct AdapterFile {
  AdapterConfig config;
  std::map<std::string, AdapterPart> parts;  ///< by the module's name
};

/// Reads a directory that PEFT or write_adapter() wrote, for a model with these linear layers. Errors: a kind of adapter that is not LoRA,
/// DoRA or rsLoRA, tensors that are missing, too many, of a wrong shape or not finite.
[[nodiscard]] base::Result<AdapterFile> read_adapter_file(const base::fs::path& directory, const std::vector<LinearModule>& modules);

/// The name of a module's tensor in the file: "lora_A.weight", "lora_B.weight", "lora_magnitude_vector".
[[nodiscard]] std::string adapter_tensor_name(const std::string& module, const char* tensor);

}  // namespace deepseek::models
