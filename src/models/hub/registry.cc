// Short names and where their weights are published.
#include <algorithm>

#include "models/hub/hub.h"

namespace deepseek::models {

const std::vector<RegistryEntry>& registry() {
  static const std::vector<RegistryEntry> kEntries{
      {"deepseek-7b", "deepseek-ai/deepseek-llm-7b-base", "llama", "6.9B", "DeepSeek licence", "base model, English and Chinese"},
      {"deepseek-7b-chat", "deepseek-ai/deepseek-llm-7b-chat", "llama", "6.9B", "DeepSeek licence", "chat"},
      {"deepseek-coder-1.3b", "deepseek-ai/deepseek-coder-1.3b-base", "llama", "1.3B", "DeepSeek licence", "code"},
      {"deepseek-r1-qwen-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "qwen2", "1.8B", "MIT", "reasoning, distilled"},
      {"gemma-3-270m", "", "gemma3", "268M", "Gemma terms of use", "4-bit GGUF, assembled from PyPI packages"},
      {"all-minilm-l6-v2", "", "bert", "23M", "Apache-2.0", "embeddings of English texts, from a PyPI package"},
      {"gemma-3-270m-it", "google/gemma-3-270m-it", "gemma3", "268M", "Gemma terms of use", "chat; asks for a token"},
      {"gemma-3-1b", "google/gemma-3-1b-pt", "gemma3", "1.0B", "Gemma terms of use", "base; asks for a token"},
      {"gemma-3-1b-it", "google/gemma-3-1b-it", "gemma3", "1.0B", "Gemma terms of use", "chat; asks for a token"},
      {"gemma-2-2b", "google/gemma-2-2b", "gemma2", "2.6B", "Gemma terms of use", "base; asks for a token"},
      {"gemma-2-2b-it", "google/gemma-2-2b-it", "gemma2", "2.6B", "Gemma terms of use", "chat; asks for a token"},
      {"llama-3.2-1b", "meta-llama/Llama-3.2-1B", "llama", "1.2B", "Llama 3.2 licence", "base; asks for a token"},
      {"llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", "llama", "1.2B", "Llama 3.2 licence", "chat; asks for a token"},
      {"llama-3.1-8b", "meta-llama/Llama-3.1-8B", "llama", "8.0B", "Llama 3.1 licence", "base; asks for a token"},
      {"tinyllama-1.1b-chat", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", "1.1B", "Apache-2.0", "chat"},
      {"smollm2-135m", "HuggingFaceTB/SmolLM2-135M", "llama", "135M", "Apache-2.0", "base"},
      {"smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama", "135M", "Apache-2.0", "chat"},
      {"qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "qwen2", "494M", "Apache-2.0", "base"},
      {"qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "qwen2", "494M", "Apache-2.0", "chat"},
      {"qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct", "qwen2", "1.5B", "Apache-2.0", "chat"},
      {"qwen3-0.6b", "Qwen/Qwen3-0.6B", "qwen3", "596M", "Apache-2.0", "chat, thinks"},
      {"qwen3-1.7b", "Qwen/Qwen3-1.7B", "qwen3", "1.7B", "Apache-2.0", "chat, thinks"},
  };
  return kEntries;
}

const RegistryEntry* find_entry(const std::string& name) {
  const auto& entries = registry();
  const auto called = [&](const RegistryEntry& entry) { return !name.empty() && (entry.name == name || entry.repository == name); };
  const auto found = std::find_if(entries.begin(), entries.end(), called);
  return found == entries.end() ? nullptr : &*found;
}

}  // namespace deepseek::models
