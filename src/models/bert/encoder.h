// An encoder: texts become vectors, as sentence-transformers computes them; or the hidden states of their tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/tokenizer/tokenizer.h"
#include "models/bert/config.h"
#include "models/bert/pooling.h"
#include "models/packed.h"
#include "models/weights.h"
#include "nn/linear.h"

namespace deepseek::models {

/// LayerNorm: weight and bias [n], f32 or the model's type.
struct LayerNorm {
  at::Tensor weight, bias;
};

/// One layer; q, k and v are one product of [3 * hidden, hidden].
struct BertLayer {
  nn::Linear qkv, attention_output, intermediate, output;
  LayerNorm attention_norm, output_norm;
};

struct BertWeights {
  at::Tensor words, positions, types;  ///< embeddings: [vocab, hidden], [positions, hidden], [types, hidden]
  LayerNorm embedding_norm;
  std::vector<BertLayer> layers;
};

class Encoder {
 public:
  Encoder(BertConfig config, SentenceConfig sentence, formats::Tokenizer tokenizer, BertWeights weights);

  /// One vector a text: [texts, dimension()] f32 on the CPU. A text longer than max_tokens() is cut, as sentence-transformers cuts it.
  /// Texts are computed in order of their length, a few thousand tokens at a time and none of them padding; the same texts with as many
  /// threads give the same bits. Errors: a text of which the tokenizer makes no token.
  [[nodiscard]] base::Result<at::Tensor> embed(std::span<const std::string> texts) const;
  /// The last hidden states of each text's tokens: [tokens, hidden] f32 on the CPU.
  [[nodiscard]] base::Result<std::vector<at::Tensor>> embed_tokens(std::span<const std::string> texts) const;

  /// Ids of a text with those around it, cut at max_tokens().
  [[nodiscard]] std::vector<int32_t> tokens(const std::string& text) const;
  /// Last hidden states of packed sequences: [T, hidden], the weights' type. Throws c10::Error where an id is outside the
  /// vocabulary, or a sequence longer than the model's positions.
  [[nodiscard]] at::Tensor hidden(const PackedSequences& batch) const;

  [[nodiscard]] int64_t dimension() const { return config_.hidden_size * static_cast<int64_t>(sentence_.pooling.size()); }
  [[nodiscard]] int64_t max_tokens() const { return sentence_.max_seq_length; }
  [[nodiscard]] const BertConfig& config() const { return config_; }
  [[nodiscard]] const SentenceConfig& sentence() const { return sentence_; }
  [[nodiscard]] const formats::Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  [[nodiscard]] at::Tensor embedded(const PackedSequences& batch) const;
  [[nodiscard]] at::Tensor layer(const BertLayer& layer, const at::Tensor& x, const std::vector<int64_t>& offsets) const;
  [[nodiscard]] at::Tensor activated(const at::Tensor& x) const;
  [[nodiscard]] at::Tensor normed(const at::Tensor& x, const LayerNorm& norm) const;
  BertConfig config_;
  SentenceConfig sentence_;
  formats::Tokenizer tokenizer_;
  BertWeights weights_;
};

/// `directory`: a Hugging Face directory of a BERT, RoBERTa or XLM-RoBERTa, with or without sentence-transformers' files. Weights
/// under the names of the bare model or of one with a head ("bert.", "roberta."); f32, f16 and bf16.
/// Errors: another kind of model, missing or damaged files, a tensor that is missing, misshapen or holds NaN, a tokenizer with more
/// tokens than the model.
[[nodiscard]] base::Result<std::unique_ptr<Encoder>> load_encoder(const base::fs::path& directory, const WeightOptions& options = {});

}  // namespace deepseek::models
