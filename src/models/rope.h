// Rotary embedding: angles of each pair of dimensions, and the ways in which they are stretched for long contexts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::models {

/// Rotary embedding of one kind of layer. Sources: RoFormer; position interpolation ("linear"); Llama 3; YaRN (Peng et al. 2023).
struct RopeConfig {
  double theta = 10000.0;
  std::string scaling;  ///< "", "linear", "llama3" or "yarn"
  double factor = 1.0;
  double low_freq_factor = 1.0;         ///< llama3
  double high_freq_factor = 4.0;        ///< llama3
  int64_t original_max_position = 8192;
  double beta_fast = 32, beta_slow = 1; ///< yarn: turns over the original context above and below which a pair is kept and interpolated
  bool truncate = true;                 ///< yarn: the edges between them are whole pairs
  double attention_factor = 1.0;        ///< yarn: by which cosines and sines are multiplied
  double mscale_all_dim = 0.0;          ///< yarn: asks for a larger scale of the scores, see yarn_mscale()
  std::vector<float> factors;           ///< by which each wavelength is stretched, as a GGUF stores them; empty: by the rule above
};

/// What a position adds to the angle of each pair of dimensions: [dim / 2].
[[nodiscard]] std::vector<float> rope_frequencies(const RopeConfig& rope, int64_t dim);

/// YaRN's growth of the scores: 0.1 mscale log(factor) + 1; 1 where nothing is stretched.
[[nodiscard]] double yarn_mscale(double factor, double mscale);

/// `rope` changed by "rope_scaling" or "rope_parameters" of a config.json; no object changes nothing. `supported`: names of scalings, separated
/// by commas. max_position: of the stretched context. Errors: a scaling that is not supported, parameters outside their range.
[[nodiscard]] base::Result<RopeConfig> rope_from_json(const nlohmann::ordered_json& parameters, RopeConfig rope, std::string_view supported, int64_t max_position);
[[nodiscard]] nlohmann::ordered_json rope_to_json(const RopeConfig& rope);

}  // namespace deepseek::models
