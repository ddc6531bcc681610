// The parts of a tokenizer between text and model, each built from its JSON description.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::formats {

using Json = nlohmann::json;

/// What a text goes through. `growth`: about how many times longer it can become; a chain of parts multiplies theirs.
struct Component {
  double growth = 1;
};
/// Above what any model needs (SentencePiece's rules give about 100); more would let a short text fill the memory.
constexpr double kMostGrowth = 4096;
template <typename Made>
[[nodiscard]] std::unique_ptr<Made> growing(std::unique_ptr<Made> made, double growth) {
  made->growth = growth > 1 ? growth : 1;
  return made;
}

class Normalizer : public Component {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text) const = 0;
};
/// `json` may be null: nothing is changed then. Errors name a type that is not known.
[[nodiscard]] base::Result<std::unique_ptr<Normalizer>> make_normalizer(const Json& json);

/// A piece of text on its way to the model. The first `leading` bytes come from the first character of the original text.
struct Piece {
  std::string text;
  size_t leading = 0;
  [[nodiscard]] Piece part(size_t begin, size_t end) const { return {text.substr(begin, end - begin), leading > begin ? leading - begin : 0}; }
};
class PreTokenizer : public Component {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(std::vector<Piece>& pieces) const = 0;
};
[[nodiscard]] base::Result<std::unique_ptr<PreTokenizer>> make_pre_tokenizer(const Json& json);

/// Turns the spellings of tokens into pieces of text; their concatenation is the text.
class TokenDecoder : public Component {
 public:
  virtual ~TokenDecoder() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};
[[nodiscard]] base::Result<std::unique_ptr<TokenDecoder>> make_decoder(const Json& json);

/// The tokens that a post-processor puts around one text.
struct Template {
  std::vector<int32_t> before, after;
};
[[nodiscard]] base::Result<Template> make_template(const Json& json);

/// GPT-2's table: each byte as a printable character.
[[nodiscard]] const std::vector<std::string>& byte_characters();
[[nodiscard]] std::string bytes_to_characters(std::string_view text);
/// The bytes that such characters stand for; a character outside the table stands for itself.
[[nodiscard]] std::string characters_to_bytes(std::string_view text);

/// Access with an error that names the place.
[[nodiscard]] std::string text_of(const Json& json, const char* key, const std::string& fallback = "");
[[nodiscard]] bool flag_of(const Json& json, const char* key, bool fallback);
/// A token's name in tokenizer_config.json: a string, or an added token's object; "" where there is neither.
[[nodiscard]] std::string named_token(const Json& config, const char* key);

}  // namespace deepseek::formats
