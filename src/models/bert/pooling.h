// From the hidden states of tokens to one vector a text, as a sentence-transformers directory describes it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "base/files.h"

namespace deepseek::models {

enum class Pooling { kCls, kMax, kMean };

/// modules.json, 1_Pooling/config.json, sentence_bert_config.json, config_sentence_transformers.json.
struct SentenceConfig {
  std::vector<Pooling> pooling{Pooling::kMean};  ///< several are put side by side, in this order
  bool normalize = false;                        ///< to length 1
  int64_t max_seq_length = 0;                    ///< tokens of a text that count, those around it included; 0: not said
  bool lowercase = false;                        ///< before the tokenizer
  std::string prompt;                            ///< put before every text
};

/// What a directory says; a directory without modules.json has mean pooling and no Normalize, as in sentence-transformers.
/// Errors: broken files, modules and poolings that are not known.
[[nodiscard]] base::Result<SentenceConfig> read_sentence_config(const base::fs::path& directory);

/// hidden: [T, hidden], sequence i is rows [offsets[i], offsets[i + 1]). Returns [sequences, hidden * poolings] f32.
[[nodiscard]] at::Tensor pooled(const at::Tensor& hidden, const std::vector<int64_t>& offsets, const SentenceConfig& config);

}  // namespace deepseek::models
