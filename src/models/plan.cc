#include "models/plan.h"

#include "base/json.h"
#include "base/text.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

// What two models must share for a plan to fit both.
Json identity(const DecoderConfig& c) {
  return {{"family", family_name(c.family)}, {"num_layers", c.num_layers}, {"hidden_size", c.hidden_size}, {"num_heads", c.num_heads},
          {"num_kv_heads", c.num_kv_heads},  {"head_dim", c.head_dim},     {"vocab_size", c.vocab_size}};
}

Result<Json> read_any(const base::fs::path& file) {
  auto json = base::read_json_file(file, size_t{16} << 20);
  if (!json) return base::pass(json);
  if (!json->is_object() || !json->contains("version") || !json->contains("model")) return fail("{} is no plan: it has no version and model", file.string());
  if ((*json)["version"] != kVersion) return fail("{} is a plan of version {}, this program reads {}", file.string(), (*json)["version"].dump().substr(0, 40), kVersion);
  return json;
}

// The number of a layer as a plan writes it; -1 for another text.
int64_t layer_number(const std::string& text) {
  if (text.empty() || text.size() > 6 || text.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(text);
}

// One attention for all heads, or a list of one for each.
Result<kernels::HeadSelections> heads_of(const Json& value, int64_t heads) {
  const auto attention = [](const Json& text) -> Result<std::optional<kernels::SelectionOptions>> {
    if (!text.is_string()) return fail("{} is no text", text.dump().substr(0, 40));
    return kernels::selection_named(text.get<std::string>());
  };
  if (!value.is_array()) {
    auto selection = attention(value);
    if (!selection) return base::pass(selection);
    return kernels::head_selections({&*selection, 1});
  }
  if (value.size() != static_cast<size_t>(heads)) return fail("the list has {} entries, the model {} heads", value.size(), heads);
  std::vector<std::optional<kernels::SelectionOptions>> out;
  for (size_t head = 0; head < value.size(); ++head) {
    auto selection = attention(value[head]);
    if (!selection) return base::within(fmt::format("head {}", head), selection.error());
    out.push_back(*selection);
  }
  return kernels::head_selections(out);
}

}  // namespace

base::fs::path plan_path(const base::fs::path& model) { return (model.extension() == ".gguf" ? model.parent_path() : model) / "plan.json"; }

Result<Json> read_plan(const base::fs::path& file, const DecoderConfig& config) {
  auto json = read_any(file);
  if (!json) return json;
  const Json wanted = identity(config), &found = (*json)["model"];
  for (const auto& [key, value] : wanted.items()) {
    const Json has = found.is_object() && found.contains(key) ? found[key] : Json();
    if (has != value) return base::refuse("{} was made for another model: its {} is {}, this one's is {}", file.string(), key, has.dump().substr(0, 40), value.dump());
  }
  return json;
}

base::Status check_plan_place(const base::fs::path& file) {
  std::error_code error;
  const auto folder = base::fs::absolute(file, error).parent_path();
  if (!base::fs::is_directory(folder, error)) return fail("{} is no directory: a plan cannot be written there", folder.string());
  if (!base::fs::exists(file, error)) return {};
  if (auto old = read_any(file); !old) return base::pass(old);
  return {};
}

base::Status write_plan_section(const base::fs::path& file, const DecoderConfig& config, const std::string& name, const Json& section) {
  Json plan{{"version", kVersion}, {"model", identity(config)}};
  std::error_code error;
  if (base::fs::exists(file, error)) {
    auto old = read_any(file);
    if (!old) return base::pass(old);
    if ((*old)["model"] == plan["model"]) plan = std::move(*old);
  }
  plan[name] = section;
  return base::write_file_atomically(file, plan.dump(2) + "\n");
}

Result<std::optional<std::vector<kernels::HeadSelections>>> sparsity_of(const Json& plan, const DecoderConfig& config) {
  const auto section = plan.find("sparsity");
  if (section == plan.end()) return std::nullopt;
  if (!section->is_object() || !section->contains("layers") || !(*section)["layers"].is_object()) return fail("sparsity: there is no object 'layers'");
  std::vector<kernels::HeadSelections> out(static_cast<size_t>(config.num_layers));
  for (const auto& [key, value] : (*section)["layers"].items()) {
    const int64_t layer = layer_number(key);
    if (layer < 0 || layer >= config.num_layers) return fail("sparsity: the model has no layer '{}'", key.substr(0, 40));
    if (config.sliding[static_cast<size_t>(layer)]) return fail("sparsity: layer {} has a sliding window; a choice of keys is for the others", layer);
    auto heads = heads_of(value, config.num_heads);
    if (!heads) return base::within(fmt::format("sparsity: layer {}", layer), heads.error());
    out[static_cast<size_t>(layer)] = std::move(*heads);
  }
  return out;
}

}  // namespace deepseek::models
