#include "models/adapter/matching.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/pattern.h"
#include "base/text.h"

namespace deepseek::models {
namespace {

using base::Pattern;
using base::refuse;
using base::Result;

bool ends_in(const std::string& name, const std::string& suffix) {
  return name == suffix || (name.size() > suffix.size() && name.ends_with(suffix) && name[name.size() - suffix.size() - 1] == '.');
}

bool any_ends_in(const std::string& name, const std::vector<std::string>& suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(), [&](const auto& suffix) { return ends_in(name, suffix); });
}

base::Status check_target(const std::string& target, const std::vector<LinearModule>& modules) {
  if (std::any_of(modules.begin(), modules.end(), [&](const auto& module) { return ends_in(module.name, target); })) return {};
  std::set<std::string> known;
  for (const auto& module : modules) known.insert(module.name.substr(module.name.rfind('.') + 1));
  if (target.ends_with("lm_head") || target.ends_with("embed_tokens")) {
    return refuse("target module '{}' is not supported: embeddings and the output head stay frozen", target);
  }
  const std::vector<std::string> candidates(known.begin(), known.end());
  const std::string near = base::nearest(target, candidates);
  std::string all;
  for (const auto& name : candidates) all += (all.empty() ? "" : ", ") + name;
  return refuse("no module of this model is called '{}'{}; it has {}, or say all-linear", target,
                near.empty() ? "" : ", did you mean '" + near + "'?", all);
}

base::Status check_size(const LinearModule& module, const ModuleAdapter& adapter) {
  const int64_t most = std::min(module.out, module.in);
  if (adapter.rank < 1) return refuse("a LoRA rank of {} makes no adapter; use 1 or more (16 is common)", adapter.rank);
  if (adapter.rank > most) {
    return refuse("a LoRA rank of {} is above the size of {} ({} x {}); use at most {}", adapter.rank, module.name, module.out, module.in, most);
  }
  if (!std::isfinite(adapter.alpha) || adapter.alpha <= 0) return refuse("a LoRA alpha of {} is not a positive number", adapter.alpha);
  return {};
}

template <typename Value>
Result<std::vector<std::pair<Pattern, Value>>> compiled(const std::vector<std::pair<std::string, Value>>& keys) {
  std::vector<std::pair<Pattern, Value>> out;
  for (const auto& [key, value] : keys) {
    auto pattern = Pattern::compile("(.*\\.)?(" + key + ")");
    if (!pattern) return base::pass(pattern);
    out.emplace_back(std::move(*pattern), value);
  }
  return out;
}

}  // namespace

struct ModuleMatcher::Rules {
  AdapterConfig config;
  std::optional<Pattern> target, exclude;
  std::vector<Pattern> layer;
  std::vector<std::pair<Pattern, int64_t>> ranks;
  std::vector<std::pair<Pattern, double>> alphas;

  [[nodiscard]] bool layer_allowed(const std::string& name) const {
    if (config.layers_to_transform.empty()) return true;
    for (const auto& pattern : layer) {
      const auto groups = pattern.match_prefix(name);
      if (groups.size() < 2) continue;
      int64_t index = -1;
      std::from_chars(groups[1].data(), groups[1].data() + groups[1].size(), index);
      return std::find(config.layers_to_transform.begin(), config.layers_to_transform.end(), index) != config.layers_to_transform.end();
    }
    return false;
  }
};

Result<ModuleMatcher> ModuleMatcher::create(const AdapterConfig& config, const std::vector<LinearModule>& modules) {
  if (!(config.dropout >= 0 && config.dropout < 1)) return refuse("a LoRA dropout of {} is not in [0, 1)", config.dropout);
  auto rules = std::make_shared<Rules>();
  rules->config = config;
  const auto compile = [](const std::string& text, std::optional<Pattern>& into) -> base::Status {
    if (text.empty()) return {};
    auto pattern = Pattern::compile(text);
    if (!pattern) return base::pass(pattern);
    into = std::move(*pattern);
    return {};
  };
  if (auto done = compile(config.target_pattern, rules->target); !done) return base::pass(done);
  if (auto done = compile(config.exclude_pattern, rules->exclude); !done) return base::pass(done);
  auto layers = config.layers_pattern;
  if (layers.empty()) layers = {"[^.]*"};
  for (const auto& text : layers) {
    auto pattern = Pattern::compile(".*\\." + text + "\\.(\\d+)\\.");
    if (!pattern) return base::pass(pattern);
    rules->layer.push_back(std::move(*pattern));
  }
  auto ranks = compiled(config.rank_pattern);
  if (!ranks) return base::pass(ranks);
  rules->ranks = std::move(*ranks);
  auto alphas = compiled(config.alpha_pattern);
  if (!alphas) return base::pass(alphas);
  rules->alphas = std::move(*alphas);
  if (config.target_pattern.empty()) {
    for (const auto& target : config.target_modules) {
      if (target == "all-linear") continue;
      if (auto known = check_target(target, modules); !known) return base::pass(known);
    }
  }
  ModuleMatcher matcher;
  matcher.rules_ = rules;
  bool any = false;
  for (const auto& module : modules) {
    if (!matcher.targets(module.name)) continue;
    any = true;
    if (auto sound = check_size(module, matcher.adapter_of(module.name)); !sound) return base::pass(sound);
  }
  if (!any) return refuse("the adapter's target and exclude rules leave no module of this model; its modules are named like '{}'", modules.front().name);
  return matcher;
}

bool ModuleMatcher::targets(const std::string& name) const {
  const auto& config = rules_->config;
  if (rules_->exclude && rules_->exclude->matches_all(name)) return false;
  if (any_ends_in(name, config.exclude_modules)) return false;
  if (rules_->target) return rules_->target->matches_all(name);
  const bool all = std::find(config.target_modules.begin(), config.target_modules.end(), "all-linear") != config.target_modules.end();
  return (all || any_ends_in(name, config.target_modules)) && rules_->layer_allowed(name);
}

ModuleAdapter ModuleMatcher::adapter_of(const std::string& name) const {
  ModuleAdapter adapter{.rank = rules_->config.rank, .alpha = rules_->config.alpha};
  for (const auto& [pattern, rank] : rules_->ranks) {
    if (!pattern.matches_all(name)) continue;
    adapter.rank = rank;
    break;
  }
  for (const auto& [pattern, alpha] : rules_->alphas) {
    if (!pattern.matches_all(name)) continue;
    adapter.alpha = alpha;
    break;
  }
  const auto rank = static_cast<double>(adapter.rank);
  adapter.scale = adapter.alpha / (rules_->config.use_rslora ? std::sqrt(rank) : rank);
  return adapter;
}

}  // namespace deepseek::models
