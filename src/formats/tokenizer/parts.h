// What a Tokenizer is made of; shared by the readers of tokenizer.json and GGUF.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "formats/tokenizer/added_tokens.h"
#include "formats/tokenizer/component.h"
#include "formats/tokenizer/token_model.h"
#include "formats/tokenizer/tokenizer.h"

namespace deepseek::formats {

struct Tokenizer::Parts {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<TokenModel> model;
  std::unique_ptr<TokenDecoder> decoder;
  Template around;
  std::map<int32_t, AddedToken> added;
  std::unordered_map<std::string, int32_t> added_ids;
  TokenFinder raw_tokens, normalized_tokens;
  std::optional<int32_t> bos, eos, pad;
  std::string source;                  ///< the tokenizer.json as read; empty where it came from GGUF
  std::function<std::string()> write;  ///< makes it then

  void add(AddedToken token);
  [[nodiscard]] size_t vocabulary_size() const;
  /// Fails where the post-processor's tokens are not in the vocabulary.
  [[nodiscard]] base::Status check_around() const;
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool special) const;
};

/// GGUF's tokenizer.ggml.token_type.
enum GgufTokenType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

/// The pre-tokenizer that a name of llama.cpp (tokenizer.ggml.pre) stands for. Errors: a name that is not known.
[[nodiscard]] base::Result<Json> gguf_pre_tokenizer(const std::string& pre);

/// From the JSON of a tokenizer.json.
[[nodiscard]] base::Result<std::unique_ptr<Tokenizer::Parts>> make_parts(const Json& json);

/// The tokenizer.json of BERT's tokenizer, from its vocab.txt (a token a line, ids in order) and what tokenizer_config.json says.
[[nodiscard]] base::Result<Json> describe_vocab(const std::string& vocab, const Json& config);

}  // namespace deepseek::formats
