// A tokenizer as Hugging Face's `tokenizers` defines it: normalizer, pre-tokenizer, model, post-processor, decoder, added tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::formats {

class Gguf;
class GgufMetadata;

class Tokenizer {
 public:
  /// From a `tokenizer.json` file or a directory that holds one (its tokenizer_config.json supplies bos/eos names where present).
  /// A directory with a vocab.txt alone is read as BERT's tokenizer.
  [[nodiscard]] static base::Result<Tokenizer> open(const base::fs::path& file_or_directory);
  /// From the text of a tokenizer.json.
  [[nodiscard]] static base::Result<Tokenizer> parse(std::string_view json);
  /// From GGUF metadata: tokenizer.ggml.model "llama" (SentencePiece BPE with byte fallback), "gpt2" (byte-level BPE), "bert".
  [[nodiscard]] static base::Result<Tokenizer> from_gguf(const Gguf& gguf);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of `text` (ill-formed UTF-8 is replaced by U+FFFD first). Special tokens written in the text are recognised.
  /// add_special_tokens: apply the post-processor (BOS and the like). Thread-safe.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = true) const;
  /// As encode() with special tokens, at most `most` ids: the text's tokens are cut at their end, those around it are kept.
  [[nodiscard]] std::vector<int32_t> encode_truncated(std::string_view text, size_t most) const;
  /// As encode(), but the text is a user's: added tokens marked special are not recognised in it.
  [[nodiscard]] std::vector<int32_t> encode_plain(std::string_view text) const;
  /// Text of `ids`; unknown ids are skipped.
  [[nodiscard]] std::string decode(const std::vector<int32_t>& ids, bool skip_special_tokens = true) const;

  [[nodiscard]] size_t vocabulary_size() const;
  [[nodiscard]] std::optional<int32_t> token_id(std::string_view token) const;
  /// The token's own spelling ("▁the"), "" where the id is unknown.
  [[nodiscard]] std::string token(int32_t id) const;
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> bos_id() const;
  [[nodiscard]] std::optional<int32_t> eos_id() const;
  [[nodiscard]] std::optional<int32_t> pad_id() const;
  /// The equivalent tokenizer.json (as read; built where it came from GGUF), so that merged models can be written whole.
  [[nodiscard]] std::string to_json() const;

  /// Writes tokenizer.ggml.* as llama.cpp reads them, for an embedding of `rows` rows: rows without a token become unused ones, tokens
  /// without a row are left out. Errors: a kind of tokenizer, or a way to split text, that llama.cpp has no name for.
  [[nodiscard]] base::Status to_gguf(int64_t rows, GgufMetadata& out) const;

  struct Parts;  ///< parts.h
  explicit Tokenizer(std::unique_ptr<Parts> parts);

 private:
  std::unique_ptr<Parts> parts_;
};

/// Turns a stream of ids into a stream of whole UTF-8 text: text held back until its bytes are complete.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  /// Text that `id` completes; "" while a character is still open.
  [[nodiscard]] std::string push(int32_t id);
  /// What is left at the end.
  [[nodiscard]] std::string finish();

 private:
  [[nodiscard]] std::string text_between(size_t begin, size_t end) const;
  const Tokenizer* tokenizer_;
  std::vector<int32_t> ids_;
  size_t prefix_ = 0, read_ = 0;
};

}  // namespace deepseek::formats
