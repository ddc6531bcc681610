// Pre-tokenizers of tokenizer.json: text into the pieces that the model sees one by one.
#include <algorithm>
#include <optional>

#include "formats/tokenizer/component.h"
#include "formats/tokenizer/regex.h"
#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;
using Made = Result<std::unique_ptr<PreTokenizer>>;
using Spans = std::vector<std::pair<size_t, size_t>>;

// GPT-2's own expression.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behaviour { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

std::optional<Behaviour> behaviour_named(const std::string& name) {
  if (name == "Removed" || name == "removed") return Behaviour::kRemoved;
  if (name == "Isolated" || name == "isolated") return Behaviour::kIsolated;
  if (name == "MergedWithPrevious" || name == "merged_with_previous") return Behaviour::kMergedWithPrevious;
  if (name == "MergedWithNext" || name == "merged_with_next") return Behaviour::kMergedWithNext;
  if (name == "Contiguous" || name == "contiguous") return Behaviour::kContiguous;
  return std::nullopt;
}

// All of the text in spans, each marked as a match or not; `invert` swaps the two.
std::vector<std::pair<std::pair<size_t, size_t>, bool>> marked(const Spans& matches, size_t size, bool invert) {
  std::vector<std::pair<std::pair<size_t, size_t>, bool>> out;
  size_t done = 0;
  for (const auto& [begin, end] : matches) {
    if (begin > done) out.push_back({{done, begin}, invert});
    out.push_back({{begin, end}, !invert});
    done = end;
  }
  if (done < size) out.push_back({{done, size}, invert});
  return out;
}

Spans split(const Spans& matches, size_t size, Behaviour behaviour, bool invert) {
  Spans out;
  bool previous_match = false;
  const auto parts = marked(matches, size, invert);
  switch (behaviour) {
    case Behaviour::kRemoved:
      for (const auto& [span, match] : parts) {
        if (!match) out.push_back(span);
      }
      break;
    case Behaviour::kIsolated:
      for (const auto& [span, match] : parts) out.push_back(span);
      break;
    case Behaviour::kContiguous:
      for (const auto& [span, match] : parts) {
        if (!out.empty() && match == previous_match) {
          out.back().second = span.second;
        } else {
          out.push_back(span);
        }
        previous_match = match;
      }
      break;
    case Behaviour::kMergedWithPrevious:
      for (const auto& [span, match] : parts) {
        if (match && !previous_match && !out.empty()) {
          out.back().second = span.second;
        } else {
          out.push_back(span);
        }
        previous_match = match;
      }
      break;
    case Behaviour::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->second && !previous_match && !out.empty()) {
          out.back().first = part->first.first;
        } else {
          out.push_back(part->first);
        }
        previous_match = part->second;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  return out;
}

// Cuts each piece by a function that gives spans.
template <typename Cut>
class Cutter : public PreTokenizer {
 public:
  explicit Cutter(Cut cut) : cut_(std::move(cut)) {}
  void apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    out.reserve(pieces.size());
    for (auto& piece : pieces) {
      for (const auto& [begin, end] : cut_(piece.text)) {
        if (end > begin) out.push_back(piece.part(begin, end));
      }
    }
    pieces = std::move(out);
  }

 private:
  Cut cut_;
};

template <typename Cut>
std::unique_ptr<PreTokenizer> cutter(Cut cut) {
  return std::make_unique<Cutter<Cut>>(std::move(cut));
}

// Matches are the characters for which `is` holds, one by one.
template <typename Is>
std::unique_ptr<PreTokenizer> by_character(Is is, Behaviour behaviour) {
  return cutter([is, behaviour](const std::string& text) {
    Spans matches;
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (is(next_character(text, at))) matches.emplace_back(begin, at);
    }
    return split(matches, text.size(), behaviour, false);
  });
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {
    for (const auto& part : parts_) growth *= part->growth;
  }
  void apply(std::vector<Piece>& pieces) const override {
    for (const auto& part : parts_) part->apply(pieces);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, std::optional<Regex> regex) : add_prefix_space_(add_prefix_space), regex_(std::move(regex)) { growth = 2; }
  void apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    for (auto& piece : pieces) {
      if (add_prefix_space_ && !piece.text.starts_with(' ')) {
        piece.text.insert(0, " ");
        piece.leading += piece.leading > 0 ? 1 : 0;
      }
      const Spans spans = regex_ ? split(regex_->matches(piece.text), piece.text.size(), Behaviour::kIsolated, false) : Spans{{0, piece.text.size()}};
      for (const auto& [begin, end] : spans) {
        if (end > begin) out.push_back({bytes_to_characters(std::string_view(piece.text).substr(begin, end - begin)), piece.leading > begin ? size_t{1} : 0});
      }
    }
    pieces = std::move(out);
  }

 private:
  bool add_prefix_space_;
  std::optional<Regex> regex_;
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, std::string scheme, bool splits)
      : replacement_(std::move(replacement)), scheme_(std::move(scheme)), splits_(splits) {
    growth = 1 + static_cast<double>(replacement_.size());
  }
  void apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    for (const auto& piece : pieces) {
      Piece marked{"", 0};
      for (size_t i = 0; i < piece.text.size(); ++i) {
        piece.text[i] == ' ' ? marked.text += replacement_ : marked.text += piece.text[i];
        if (i + 1 == piece.leading) marked.leading = marked.text.size();
      }
      const bool prepends = scheme_ == "always" || (scheme_ == "first" && piece.leading > 0);
      if (prepends && !marked.text.starts_with(replacement_)) {
        marked.text.insert(0, replacement_);
        marked.leading += piece.leading > 0 ? replacement_.size() : 0;
      }
      if (!splits_) {
        out.push_back(std::move(marked));
        continue;
      }
      for (const auto& [begin, end] : split(Regex::literal(replacement_).matches(marked.text), marked.text.size(), Behaviour::kMergedWithNext, false)) {
        out.push_back(marked.part(begin, end));
      }
    }
    pieces = std::move(out);
  }

 private:
  std::string replacement_, scheme_;
  bool splits_;
};

Made make_split(const Json& json) {
  auto behaviour = behaviour_named(text_of(json, "behavior"));
  if (!behaviour) return fail("the split behaviour '{}' is not known", text_of(json, "behavior"));
  auto regex = pattern_of(json, "Split pre-tokenizer");
  if (!regex) return base::pass(regex);
  return cutter([regex = *regex, behaviour = *behaviour, invert = flag_of(json, "invert", false)](const std::string& text) {
    return split(regex.matches(text), text.size(), behaviour, invert);
  });
}

Made make_metaspace(const Json& json) {
  std::string scheme = text_of(json, "prepend_scheme", flag_of(json, "add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") return fail("the Metaspace prepend_scheme '{}' is not known", scheme);
  return std::make_unique<Metaspace>(text_of(json, "replacement", "\u2581"), scheme, flag_of(json, "split", true));
}

// Runs of word characters and runs of other signs, without blanks: `\w+|[^\w\s]+`.
Spans words_and_signs(const std::string& text) {
  Spans out;
  int kind = 0;  // 0 blank, 1 word, 2 sign
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_character(text, at);
    const int now = is_word(c) ? 1 : is_white_space(c) ? 0 : 2;
    if (now != 0 && now == kind) {
      out.back().second = at;
    } else if (now != 0) {
      out.emplace_back(begin, at);
    }
    kind = now;
  }
  return out;
}

Made make_byte_level(const Json& json) {
  std::optional<Regex> regex;
  if (flag_of(json, "use_regex", true)) {
    auto compiled = Regex::compile(kGpt2);
    if (!compiled) return base::pass(compiled);
    regex = std::move(*compiled);
  }
  return std::make_unique<ByteLevel>(flag_of(json, "add_prefix_space", true), std::move(regex));
}

Made make_sequence(const Json& json) {
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const auto& part : json.value("pretokenizers", Json::array())) {
    auto made = make_pre_tokenizer(part);
    if (!made) return made;
    parts.push_back(std::move(*made));
  }
  return std::make_unique<Sequence>(std::move(parts));
}

}  // namespace

Result<std::unique_ptr<PreTokenizer>> make_pre_tokenizer(const Json& json) {
  if (json.is_null()) return make_sequence(Json::object());
  if (!json.is_object()) return fail("a pre-tokenizer is no object");
  const std::string type = text_of(json, "type");
  if (type == "Sequence") return make_sequence(json);
  if (type == "ByteLevel") return make_byte_level(json);
  if (type == "Split") return make_split(json);
  if (type == "Metaspace") return make_metaspace(json);
  if (type == "Whitespace") return cutter(words_and_signs);
  if (type == "WhitespaceSplit") return by_character(is_white_space, Behaviour::kRemoved);
  if (type == "Digits") {
    return by_character(is_numeric, flag_of(json, "individual_digits", false) ? Behaviour::kIsolated : Behaviour::kContiguous);
  }
  if (type == "Punctuation") {
    auto behaviour = behaviour_named(text_of(json, "behavior", "Isolated"));
    if (!behaviour) return fail("the split behaviour '{}' is not known", text_of(json, "behavior"));
    return by_character(is_bert_punctuation, *behaviour);
  }
  if (type == "CharDelimiterSplit") {
    const std::u32string delimiter = to_utf32(text_of(json, "delimiter"));
    if (delimiter.size() != 1) return fail("a CharDelimiterSplit needs one character");
    return by_character([c = delimiter[0]](char32_t other) { return other == c; }, Behaviour::kRemoved);
  }
  if (type == "BertPreTokenizer") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    parts.push_back(by_character(is_white_space, Behaviour::kRemoved));
    parts.push_back(by_character(is_bert_punctuation, Behaviour::kIsolated));
    return std::make_unique<Sequence>(std::move(parts));
  }
  return fail("the pre-tokenizer '{}' is not known", type);
}

}  // namespace deepseek::formats
