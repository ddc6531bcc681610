#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using base::value_or;
using json = nlohmann::ordered_json;

// Llama 3's rule: long wavelengths are stretched by `factor`, short ones kept, those between are blended.
double llama3_frequency(double frequency, const RopeConfig& rope) {
  const double wavelength = 2 * M_PI / frequency, original = static_cast<double>(rope.original_max_position);
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  const double blend = (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - blend) * frequency / rope.factor + blend * frequency;
}

// The pair of dimensions that makes `turns` over the original context.
double yarn_pair(double turns, const RopeConfig& rope, int64_t dim) {
  return static_cast<double>(dim) * std::log(static_cast<double>(rope.original_max_position) / (turns * 2 * M_PI)) / (2 * std::log(rope.theta));
}

// Pairs below `low` keep their frequency, those above `high` are interpolated, those between are blended.
double yarn_frequency(double frequency, int64_t pair, int64_t dim, const RopeConfig& rope) {
  double low = yarn_pair(rope.beta_fast, rope, dim), high = yarn_pair(rope.beta_slow, rope, dim);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const double interpolated = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return frequency / rope.factor * interpolated + frequency * (1 - interpolated);
}

Result<RopeConfig> yarn_from(const json& parameters, RopeConfig rope, int64_t max_position) {
  if (value_or(parameters, "factor", 0.0) == 0.0) rope.factor = static_cast<double>(max_position) / static_cast<double>(rope.original_max_position);
  const auto number = [&](const char* key, double fallback) {
    const double value = value_or(parameters, key, fallback);
    return value == 0.0 ? fallback : value;
  };
  rope.beta_fast = number("beta_fast", 32);
  rope.beta_slow = number("beta_slow", 1);
  rope.truncate = value_or(parameters, "truncate", true);
  rope.mscale_all_dim = value_or(parameters, "mscale_all_dim", 0.0);
  const double mscale = value_or(parameters, "mscale", 0.0);
  const bool both = mscale != 0 && rope.mscale_all_dim != 0;
  rope.attention_factor = value_or(parameters, "attention_factor",
                                   both ? yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, rope.mscale_all_dim) : yarn_mscale(rope.factor, 1));
  if (!(rope.beta_slow > 0 && rope.beta_fast > rope.beta_slow && rope.original_max_position > 0 && rope.theta > 1)) {
    return fail("rope scaling yarn needs 0 < beta_slow < beta_fast, a positive original_max_position_embeddings and rope_theta above 1");
  }
  return rope;
}

}  // namespace

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

std::vector<float> rope_frequencies(const RopeConfig& rope, int64_t dim) {
  std::vector<float> values;
  for (int64_t i = 0; i < dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    if (rope.scaling == "linear") frequency /= rope.factor;
    if (!rope.factors.empty()) frequency /= static_cast<double>(rope.factors[static_cast<size_t>(i)]);
    else if (rope.scaling == "llama3") frequency = llama3_frequency(frequency, rope);
    else if (rope.scaling == "yarn") frequency = yarn_frequency(frequency, i, dim, rope);
    values.push_back(static_cast<float>(frequency));
  }
  return values;
}

Result<RopeConfig> rope_from_json(const json& parameters, RopeConfig rope, std::string_view supported, int64_t max_position) {
  if (!parameters.is_object()) return rope;
  rope.theta = value_or(parameters, "rope_theta", rope.theta);
  const std::string type = value_or<std::string>(parameters, "rope_type", value_or<std::string>(parameters, "type", "default"));
  if (type == "default") return rope;
  const std::string names = ", " + std::string(supported) + ",";
  if (type.find(',') != std::string::npos || names.find(", " + type + ",") == std::string::npos) {
    const size_t last = supported.rfind(", ");
    const std::string list = last == std::string_view::npos ? std::string(supported) : fmt::format("{} and {}", supported.substr(0, last), supported.substr(last + 2));
    return fail("rope scaling '{}' is not supported; supported are {}", type, list);
  }
  rope.scaling = type;
  rope.factor = value_or(parameters, "factor", 1.0);
  rope.low_freq_factor = value_or(parameters, "low_freq_factor", 1.0);
  rope.high_freq_factor = value_or(parameters, "high_freq_factor", 4.0);
  rope.original_max_position = value_or<int64_t>(parameters, "original_max_position_embeddings", type == "yarn" ? max_position : 8192);
  if (!(rope.factor > 0)) return fail("rope scaling factor {} must be positive", rope.factor);
  if (type == "llama3" && !(rope.low_freq_factor > 0 && rope.low_freq_factor < rope.high_freq_factor && rope.original_max_position > 0)) {
    return fail("rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor and a positive original_max_position_embeddings");
  }
  return type == "yarn" ? yarn_from(parameters, rope, max_position) : Result<RopeConfig>(rope);
}

json rope_to_json(const RopeConfig& rope) {
  json j{{"rope_type", rope.scaling.empty() ? "default" : rope.scaling}, {"rope_theta", rope.theta}};
  if (!rope.scaling.empty()) j["factor"] = rope.factor;
  if (rope.scaling == "llama3") {
    j["low_freq_factor"] = rope.low_freq_factor;
    j["high_freq_factor"] = rope.high_freq_factor;
    j["original_max_position_embeddings"] = rope.original_max_position;
  }
  return j;
}

}  // namespace deepseek::models
