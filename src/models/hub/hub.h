// Names to files: the registry of models, what is on this machine, and downloads from a model hub.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::models {

/// One row of the registry: a short name and where its weights come from.
struct RegistryEntry {
  std::string name;         ///< "deepseek-7b"
  std::string repository;   ///< "deepseek-ai/deepseek-llm-7b-base"; empty where it is assembled from packages
  std::string family;       ///< "llama", "qwen2", "qwen3", "gemma2", "gemma3", "bert"
  std::string parameters;   ///< "6.9B"
  std::string licence;
  std::string note;         ///< one line
};
[[nodiscard]] const std::vector<RegistryEntry>& registry();
[[nodiscard]] const RegistryEntry* find_entry(const std::string& name);

/// Where a spec lives on this machine: a directory or a .gguf. A name that is not here: the error says how to get it and lists what is at hand.
[[nodiscard]] base::Result<base::fs::path> locate_model(const std::string& spec);
/// Registry names and cached owner/name that are on this machine.
[[nodiscard]] std::vector<std::string> models_at_hand();

struct PullProgress {
  std::string file;
  uint64_t done = 0, total = 0;  ///< bytes
};
struct PullOptions {
  std::string revision = "main";
  std::string endpoint;          ///< empty: $HF_ENDPOINT, else the public hub
  std::string token;             ///< empty: $HF_TOKEN, else the token file in HF_HOME
  base::fs::path cache;          ///< empty: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub
  std::function<bool(const PullProgress&)> progress;  ///< false cancels; what was fetched is kept and resumed
};

/// Fetches a model and returns where it is. Resumes, checks sizes and SHA-256 (LFS) or git blob SHA-1, keeps the hub's cache layout
/// (models--owner--name/{blobs,refs,snapshots}), safe against two processes pulling the same model.
[[nodiscard]] base::Result<base::fs::path> pull_model(const std::string& name, const PullOptions& options = {});

}  // namespace deepseek::models
