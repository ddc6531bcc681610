// A model as a user has it, but for its weights: a name, a directory or a .gguf becomes configuration, tokenizer, chat template and
// defaults. Without libtorch.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "formats/chat_template/chat_template.h"
#include "formats/tokenizer/tokenizer.h"
#include "models/decoder/config.h"

namespace deepseek::models {

/// generation_config.json: the model's own defaults for sampling; absent values keep the defaults here.
struct GenerationDefaults {
  bool do_sample = false;
  double temperature = 1.0, top_p = 1.0, min_p = 0.0, repetition_penalty = 1.0;
  int64_t top_k = 0;
  std::vector<int32_t> eos_ids;
};

/// All of a model but its weights: enough to plan, to tokenise and to refuse before anything large is read.
struct ModelText {
  std::string name;              ///< as asked for
  base::fs::path path;           ///< directory or .gguf
  DecoderConfig config;
  formats::Tokenizer tokenizer;
  std::optional<formats::ChatTemplate> chat_template;
  GenerationDefaults generation;
  std::shared_ptr<const formats::Gguf> gguf;  ///< a .gguf as it was opened, for who reads its weights next; may be reset

  [[nodiscard]] const formats::ChatTemplate* chat() const { return chat_template ? &*chat_template : nullptr; }
  /// Renders messages with the model's template (the plain form of models/prompt.h where it has none) and tokenises.
  [[nodiscard]] base::Result<std::vector<int32_t>> encode_chat(const std::vector<formats::ChatMessage>& messages,
                                                               bool add_generation_prompt) const;
};

/// Refuses a model of models/deepseek/, which generate, chat and eval alone run.
[[nodiscard]] base::Status require_decoder(const ModelText& text);

/// `spec`: a registry name ("gemma-3-270m"), owner/name in the cache, a directory, or a .gguf file.
[[nodiscard]] base::Result<ModelText> open_model(const std::string& spec);

}  // namespace deepseek::models
