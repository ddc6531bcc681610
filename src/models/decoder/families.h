// The families of decoders: their names, and what each implies whatever its configuration says. Private to this folder.
#pragma once

#include <array>

#include "models/decoder/config.h"

namespace deepseek::models {

struct FamilyRow {
  DecoderFamily family;
  const char* name;
  const char* architecture;  // of the written config.json
  const char* model_type;
};
// kDeepseek has no row: models/deepseek/ reads and runs it.
inline constexpr std::array<FamilyRow, 5> kFamilies{{{DecoderFamily::kLlama, "llama", "LlamaForCausalLM", "llama"},
                                              {DecoderFamily::kQwen2, "qwen2", "Qwen2ForCausalLM", "qwen2"},
                                              {DecoderFamily::kQwen3, "qwen3", "Qwen3ForCausalLM", "qwen3"},
                                              {DecoderFamily::kGemma2, "gemma2", "Gemma2ForCausalLM", "gemma2"},
                                              {DecoderFamily::kGemma3, "gemma3", "Gemma3ForCausalLM", "gemma3_text"}}};
inline constexpr const char* kSupported = "llama, qwen2, qwen3, gemma2, gemma3";

inline const FamilyRow& row_of(DecoderFamily family) { return kFamilies[static_cast<size_t>(family)]; }

/// Sizes that no decoder can have, and numbers outside their range.
[[nodiscard]] base::Status check_sizes(const DecoderConfig& c);
/// What a family implies, whatever the configuration says of sizes.
void apply_family(DecoderConfig& c);
/// Layers that slide: every other one in Gemma 2, all but each `pattern`-th in Gemma 3.
void default_sliding(DecoderConfig& c, int64_t pattern);
/// The factor before q k^T as GGUF implies it.
[[nodiscard]] double implied_attention_scale(const DecoderConfig& c);

}  // namespace deepseek::models
