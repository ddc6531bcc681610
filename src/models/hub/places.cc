#include "models/hub/places.h"

#include <algorithm>
#include <cstdlib>
#include <regex>

#include "base/text.h"
#include "models/hub/packages.h"

namespace deepseek::models {
namespace {

using base::refuse;
namespace fs = base::fs;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path hub_home() {
  if (const auto home = environment("HF_HOME"); !home.empty()) return home;
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "huggingface";
  return fs::path(environment("HOME")) / ".cache/huggingface";
}

bool has_weights(const fs::path& directory) {
  std::error_code error;
  return fs::exists(directory / "model.safetensors", error) || fs::exists(directory / "model.safetensors.index.json", error);
}

// Directories and files that a person may name.
base::Result<fs::path> local(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (!fs::exists(path / "config.json", error)) return refuse("{} is a directory without a config.json: it holds no model", path.string());
    if (!has_weights(path)) return refuse("{} has a config.json but no safetensors weights (model.safetensors or its index)", path.string());
    return path;
  }
  if (path.extension() == ".gguf") return path;
  return refuse("{} is neither a model directory nor a .gguf file", path.string());
}

// Where a row's model is; empty where it is not on this machine.
fs::path at_hand(const RegistryEntry& entry) {
  if (!entry.repository.empty()) return cached_snapshot(hub_cache(), entry.repository);
  const auto* packaged = find_packaged(entry.name);
  return packaged != nullptr ? packaged->find() : fs::path();
}

std::string how_to_get(const RegistryEntry& entry) {
  return fmt::format("get it with \"deepseek-cli pull {}\" ({} parameters)", entry.name, entry.parameters);
}

std::string at_hand_text() {
  const auto names = models_at_hand();
  if (names.empty()) return "no model is at hand yet; \"deepseek-cli pull gemma-3-270m\" is small and needs no token";
  std::string text = "at hand: ";
  for (size_t i = 0; i < names.size(); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text;
}

}  // namespace

fs::path hub_cache() {
  if (const auto cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  return hub_home() / "hub";
}

std::string hub_token() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (const auto token = environment(name); !token.empty()) return token;
  }
  const auto path = environment("HF_TOKEN_PATH");
  auto text = base::read_file(path.empty() ? hub_home() / "token" : fs::path(path), 4096);
  if (!text) return "";
  while (!text->empty() && std::isspace(static_cast<unsigned char>(text->back())) != 0) text->pop_back();
  return *text;
}

std::string cache_name(const std::string& repository) {
  std::string name = "models--" + repository;
  if (const size_t slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
  return name;
}

bool is_repository(const std::string& text) {
  static const std::regex kForm("[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}");
  return text.size() < 200 && std::regex_match(text, kForm) && text.find("..") == std::string::npos;
}

fs::path cached_snapshot(const fs::path& cache, const std::string& repository) {
  const fs::path home = cache / cache_name(repository);
  std::error_code error;
  std::vector<fs::path> candidates;
  if (auto sha = base::read_file(home / "refs/main", 256)) {
    while (!sha->empty() && std::isspace(static_cast<unsigned char>(sha->back())) != 0) sha->pop_back();
    if (sha->find('/') == std::string::npos) candidates.push_back(home / "snapshots" / *sha);
  }
  for (fs::directory_iterator it(home / "snapshots", error), end; !error && it != end; it.increment(error)) candidates.push_back(it->path());
  for (const auto& path : candidates) {
    if (fs::exists(path / "config.json", error) && has_weights(path)) return path;
  }
  return {};
}

base::Result<fs::path> locate_model(const std::string& spec) {
  if (spec.empty()) return refuse("no model is named; {}", at_hand_text());
  std::error_code error;
  if (const auto* entry = find_entry(spec); entry != nullptr && !fs::exists(spec, error)) {
    const fs::path found = at_hand(*entry);
    if (!found.empty()) return found;
    return refuse("the model {} is not on this machine: {}; {}", spec, how_to_get(*entry), at_hand_text());
  }
  if (fs::exists(spec, error)) return local(spec);
  if (is_repository(spec)) {
    if (const auto found = cached_snapshot(hub_cache(), spec); !found.empty()) return found;
    return refuse("{} is neither a path nor in the cache of downloaded models: get it with \"deepseek-cli pull {}\"; {}", spec, spec, at_hand_text());
  }
  if (spec.find('/') != std::string::npos || spec.ends_with(".gguf")) return refuse("there is no {}; {}", spec, at_hand_text());
  std::vector<std::string> names;
  for (const auto& entry : registry()) names.push_back(entry.name);
  const std::string near = base::nearest(spec, names);
  return refuse("no model is called '{}'{}; {}", spec, near.empty() ? "" : ", did you mean '" + near + "'?", at_hand_text());
}

std::vector<std::string> models_at_hand() {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : registry()) {
    const fs::path found = at_hand(entry);
    if (!found.empty()) out.push_back(entry.name);
  }
  for (fs::directory_iterator it(hub_cache(), error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with("models--")) continue;
    name = name.substr(8);
    const size_t dashes = name.find("--");
    if (dashes == std::string::npos) continue;
    name.replace(dashes, 2, "/");
    if (find_entry(name) == nullptr && !cached_snapshot(hub_cache(), name).empty()) out.push_back(name);
  }
  return out;
}

}  // namespace deepseek::models
