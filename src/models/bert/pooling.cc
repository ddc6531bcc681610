#include "models/bert/pooling.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mean.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "nn/functional.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;

struct Mode {
  Pooling pooling;
  const char* name;  // in "pooling_mode"
  const char* flag;  // in older files
};
// In the order in which sentence-transformers puts them side by side.
constexpr std::array<Mode, 3> kModes{{{Pooling::kCls, "cls", "pooling_mode_cls_token"},
                                      {Pooling::kMax, "max", "pooling_mode_max_tokens"},
                                      {Pooling::kMean, "mean", "pooling_mode_mean_tokens"}}};
constexpr const char* kKnown = "cls, max and mean";

// Null where there is no such file.
Result<Json> optional_object(const fs::path& path) {
  if (!fs::exists(path)) return Json(nullptr);
  auto json = base::read_json_file(path);
  if (!json) return base::pass(json);
  if (!json->is_object()) return fail("{} is no JSON object", path.string());
  return json;
}

std::string text_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_true(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() && found->get<bool>();
}

base::Status add_named(const Json& name, std::vector<Pooling>& into) {
  for (const auto& mode : kModes) {
    if (name != mode.name) continue;
    into.push_back(mode.pooling);
    return {};
  }
  return fail("the pooling {} is not supported; supported are {}", name.dump().substr(0, 60), kKnown);
}

// "pooling_mode": "mean" or a list; in older files one flag for each, of which none means the mean.
Result<std::vector<Pooling>> read_modes(const Json& json) {
  std::vector<Pooling> modes;
  if (const auto named = json.find("pooling_mode"); named != json.end()) {
    const Json list = named->is_array() ? *named : Json::array({*named});
    for (const auto& name : list) {
      if (auto added = add_named(name, modes); !added) return base::pass(added);
    }
    if (modes.empty()) return fail("pooling_mode names no pooling; supported are {}", kKnown);
    return modes;
  }
  for (const auto& mode : kModes) {
    if (is_true(json, mode.flag)) modes.push_back(mode.pooling);
  }
  for (const auto& [key, value] : json.items()) {
    const bool known = std::any_of(kModes.begin(), kModes.end(), [&](const Mode& mode) { return key == mode.flag; });
    if (key.starts_with("pooling_mode_") && !known && value == true) return fail("the pooling {} is not supported; supported are {}", key.substr(13), kKnown);
  }
  if (modes.empty()) modes = {Pooling::kMean};
  return modes;
}

base::Status read_pooling(const fs::path& file, SentenceConfig& into) {
  auto json = optional_object(file);
  if (!json) return base::pass(json);
  if (json->is_null()) return fail("{} is missing, though modules.json names it", file.string());
  auto modes = read_modes(*json);
  if (!modes) return base::within(file.string(), modes.error());
  into.pooling = std::move(*modes);
  if (const auto whole = json->find("include_prompt"); whole != json->end() && *whole == false && !into.prompt.empty()) {
    return fail("{}: a prompt that is left out of the pooling is not supported", file.string());
  }
  return {};
}

// Transformer, Pooling, then Normalize or nothing; each module's kind is the last part of its type.
base::Status read_modules(const fs::path& directory, SentenceConfig& into) {
  const fs::path file = directory / "modules.json";
  if (!fs::exists(file)) return {};
  auto json = base::read_json_file(file);
  if (!json) return base::pass(json);
  if (!json->is_array()) return fail("{} is no list of modules", file.string());
  std::string so_far;
  for (const auto& module : *json) {
    const std::string type = module.is_object() ? text_in(module, "type") : "", kind = type.substr(type.rfind('.') + 1);
    so_far += (so_far.empty() ? "" : ", ") + kind;
    if (kind == "Pooling" && so_far == "Transformer, Pooling") {
      const fs::path folder = text_in(module, "path");
      const bool inside = !folder.is_absolute() && folder.string().find("..") == std::string::npos;
      if (!inside) return fail("{}: the path '{}' leaves the model's directory", file.string(), folder.string());
      if (auto read = read_pooling(directory / folder / "config.json", into); !read) return read;
    }
    into.normalize = into.normalize || kind == "Normalize";
  }
  if (so_far == "Transformer, Pooling" || so_far == "Transformer, Pooling, Normalize") return {};
  return fail("{}: the modules {} are not supported; supported are Transformer, Pooling, and Normalize behind them", file.string(), so_far.substr(0, 200));
}

base::Status read_limits(const fs::path& directory, SentenceConfig& into) {
  const fs::path file = directory / "sentence_bert_config.json";
  auto json = optional_object(file);
  if (!json) return base::pass(json);
  if (json->is_null()) return {};
  into.lowercase = is_true(*json, "do_lower_case");
  const auto length = json->find("max_seq_length");
  if (length == json->end() || length->is_null()) return {};
  if (!length->is_number_integer() || *length < 1 || *length > int64_t{1} << 31) {
    return fail("{}: max_seq_length is {}, which is no number of tokens", file.string(), length->dump().substr(0, 40));
  }
  into.max_seq_length = length->get<int64_t>();
  return {};
}

base::Status read_prompt(const fs::path& directory, SentenceConfig& into) {
  auto json = optional_object(directory / "config_sentence_transformers.json");
  if (!json) return base::pass(json);
  if (json->is_null()) return {};
  const std::string name = text_in(*json, "default_prompt_name");
  const auto prompts = json->find("prompts");
  if (!name.empty() && prompts != json->end() && prompts->is_object()) into.prompt = text_in(*prompts, name.c_str());
  return {};
}

// rows: [sequences, length, hidden] -> [sequences, hidden].
at::Tensor pooled_by(Pooling pooling, const at::Tensor& rows) {
  if (pooling == Pooling::kCls) return rows.select(1, 0);
  if (pooling == Pooling::kMax) return at::amax(rows, {1});
  return at::mean(rows, at::IntArrayRef{1});
}

}  // namespace

Result<SentenceConfig> read_sentence_config(const fs::path& directory) {
  SentenceConfig config;
  for (const auto read : {read_prompt, read_limits, read_modules}) {
    if (auto done = read(directory, config); !done) return base::pass(done);
  }
  return config;
}

at::Tensor pooled(const at::Tensor& hidden, const std::vector<int64_t>& offsets, const SentenceConfig& config) {
  std::vector<at::Tensor> vectors;
  for (const nn::Run& run : nn::runs_of_equal_length(offsets)) {
    const at::Tensor rows = hidden.narrow(0, run.begin, run.sequences * run.length).unflatten(0, {run.sequences, run.length}).to(at::kFloat);
    std::vector<at::Tensor> parts;
    for (const Pooling pooling : config.pooling) parts.push_back(pooled_by(pooling, rows));
    vectors.push_back(at::cat(parts, 1));
  }
  const at::Tensor out = at::cat(vectors, 0);
  constexpr double kLeast = 1e-12;  // as torch.nn.functional.normalize has it, for a vector of zeros
  return config.normalize ? out / at::linalg_vector_norm(out, 2, at::IntArrayRef{1}, true).clamp_min(kLeast) : out;
}

}  // namespace deepseek::models
