// Decoders and post-processors of tokenizer.json.
#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"
#include "formats/tokenizer/component.h"
#include "formats/tokenizer/regex.h"
#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;
using Made = Result<std::unique_ptr<TokenDecoder>>;
using Tokens = std::vector<std::string>;

template <typename Function>
class Simple : public TokenDecoder {
 public:
  explicit Simple(Function function) : function_(std::move(function)) {}
  void apply(Tokens& tokens) const override { function_(tokens); }

 private:
  Function function_;
};

template <typename Function>
std::unique_ptr<TokenDecoder> simple(Function function) {
  return std::make_unique<Simple<Function>>(std::move(function));
}

class Sequence : public TokenDecoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<TokenDecoder>> parts) : parts_(std::move(parts)) {
    for (const auto& part : parts_) growth *= part->growth;
  }
  void apply(Tokens& tokens) const override {
    for (const auto& part : parts_) part->apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> parts_;
};

std::string joined(const Tokens& tokens) {
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) { Regex::literal(what).replace(text, by); }

// -1 where the token is not of the form <0xAB>.
int byte_of(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? value : -1;
}

// Runs of byte tokens become their text where it is UTF-8, else one U+FFFD for each byte.
void byte_fallback(Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (base::is_utf8(bytes)) {
      out.push_back(bytes);
    } else {
      for (size_t i = 0; i < bytes.size(); ++i) out.push_back("\uFFFD");
    }
    bytes.clear();
  };
  for (const auto& token : tokens) {
    if (const int byte = byte_of(token); byte >= 0) {
      bytes += static_cast<char>(byte);
    } else {
      flush();
      out.push_back(token);
    }
  }
  flush();
  tokens = std::move(out);
}

void clean_up(std::string& text) {
  static constexpr std::array<std::pair<const char*, const char*>, 11> kRules{{{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
                                                                              {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}}};
  for (const auto& [what, by] : kRules) replace_all(text, what, by);
}

Made word_piece(const Json& json) {
  return simple([prefix = text_of(json, "prefix", "##"), cleanup = flag_of(json, "cleanup", true)](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        if (tokens[i].starts_with(prefix)) {
          tokens[i].erase(0, prefix.size());
        } else {
          tokens[i].insert(0, " ");
        }
      }
      if (cleanup) clean_up(tokens[i]);
    }
  });
}

Made strip(const Json& json) {
  const auto count = [&](const char* key) { return json.contains(key) && json[key].is_number_unsigned() ? json[key].get<size_t>() : size_t{0}; };
  return simple([content = text_of(json, "content"), left = count("start"), right = count("stop")](Tokens& tokens) {
    if (content.empty()) return;
    for (auto& token : tokens) {
      size_t begin = 0;
      for (size_t i = 0; i < left && token.compare(begin, content.size(), content) == 0; ++i) begin += content.size();
      token.erase(0, begin);
      for (size_t i = 0; i < right && token.ends_with(content); ++i) token.erase(token.size() - content.size());
    }
  });
}

Made metaspace(const Json& json) {
  const std::string scheme = text_of(json, "prepend_scheme", flag_of(json, "add_prefix_space", true) ? "always" : "never");
  return simple([mark = text_of(json, "replacement", "\u2581"), prepends = scheme != "never"](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i == 0 && prepends && tokens[i].starts_with(mark)) tokens[i].erase(0, mark.size());
      replace_all(tokens[i], mark, " ");
    }
  });
}

Made ctc(const Json& json) {
  return simple([pad = text_of(json, "pad_token", "<pad>"), word = text_of(json, "word_delimiter_token", "|"), cleanup = flag_of(json, "cleanup", true)](Tokens& tokens) {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (auto& token : tokens) {
      replace_all(token, pad, "");
      if (!cleanup) continue;
      clean_up(token);
      replace_all(token, word, " ");
    }
    std::erase(tokens, "");
  });
}

Made replace(const Json& json) {
  auto regex = pattern_of(json, "Replace decoder");
  if (!regex) return base::pass(regex);
  const std::string content = text_of(json, "content");
  const double growth = regex->growth_by(content);
  return growing(simple([regex = *regex, content](Tokens& tokens) {
    for (auto& token : tokens) regex.replace(token, content);
  }), growth);
}

// Far more than any model puts around a text; a list that repeats a long list would grow without end.
constexpr size_t kMostAround = 1024;

base::Status append_ids(const Json& special_tokens, const std::string& name, std::vector<int32_t>& out) {
  const auto found = special_tokens.find(name);
  if (found == special_tokens.end() || !found->contains("ids")) return fail("the post-processor names the special token '{}' and does not say its id", name);
  const auto& ids = (*found)["ids"];
  if (out.size() + ids.size() > kMostAround) return fail("the post-processor puts more than {} tokens around a text", kMostAround);
  for (const auto& id : ids) out.push_back(id.get<int32_t>());
  return {};
}

Result<Template> template_processing(const Json& json) {
  Template out;
  bool after = false;
  const Json none = Json::object();
  const auto single = json.find("single"), special_tokens = json.find("special_tokens");
  const Json& known = special_tokens == json.end() ? none : *special_tokens;
  if (single == json.end()) return out;
  for (const auto& part : *single) {
    if (part.contains("Sequence")) after = true;
    if (!part.contains("SpecialToken")) continue;
    if (auto added = append_ids(known, text_of(part["SpecialToken"], "id"), after ? out.after : out.before); !added) return base::pass(added);
  }
  return out;
}

int32_t pair_id(const Json& json, const char* key) { return json.at(key).at(1).get<int32_t>(); }

}  // namespace

const std::vector<std::string>& byte_characters() {
  static const std::vector<std::string> kTable = [] {
    std::vector<std::string> table(256);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
      append_utf8(table[static_cast<size_t>(byte)], printable ? static_cast<char32_t>(byte) : next);
      if (!printable) ++next;
    }
    return table;
  }();
  return kTable;
}

std::string bytes_to_characters(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (const char c : text) out += byte_characters()[static_cast<unsigned char>(c)];
  return out;
}

std::string characters_to_bytes(std::string_view text) {
  static const std::array<int, 512> kBytes = [] {
    std::array<int, 512> table{};
    table.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      size_t at = 0;
      table[next_character(byte_characters()[static_cast<size_t>(byte)], at)] = byte;
    }
    return table;
  }();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    if (c >= 512 || kBytes[c] < 0) return std::string(text);  // one foreign character and the whole is taken as it is
    out += static_cast<char>(kBytes[c]);
  }
  return out;
}

Result<std::unique_ptr<TokenDecoder>> make_decoder(const Json& json) {
  if (json.is_null()) {
    // Without a decoder tokens stand with a blank between them.
    return simple([](Tokens& tokens) {
      for (size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(0, " ");
    });
  }
  if (!json.is_object()) return fail("a decoder is no object");
  const std::string type = text_of(json, "type");
  if (type == "Sequence") {
    std::vector<std::unique_ptr<TokenDecoder>> parts;
    for (const auto& part : json.value("decoders", Json::array())) {
      auto made = make_decoder(part);
      if (!made) return made;
      parts.push_back(std::move(*made));
    }
    return std::make_unique<Sequence>(std::move(parts));
  }
  if (type == "ByteLevel") {
    return simple([](Tokens& tokens) {
      std::string bytes;
      for (const auto& token : tokens) bytes += characters_to_bytes(token);
      tokens = {base::to_valid_utf8(bytes)};
    });
  }
  if (type == "ByteFallback") return simple(byte_fallback);
  if (type == "Fuse") return simple([](Tokens& tokens) { tokens = {joined(tokens)}; });
  if (type == "WordPiece") return word_piece(json);
  if (type == "Strip") return strip(json);
  if (type == "Metaspace") return metaspace(json);
  if (type == "CTC") return ctc(json);
  if (type == "Replace") return replace(json);
  if (type == "BPEDecoder") {
    return simple([suffix = text_of(json, "suffix", "</w>")](Tokens& tokens) {
      for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
    });
  }
  return fail("the decoder '{}' is not known", type);
}

Result<Template> make_template(const Json& json) {
  if (json.is_null()) return Template{};
  if (!json.is_object()) return fail("a post-processor is no object");
  const std::string type = text_of(json, "type");
  if (type == "TemplateProcessing") return template_processing(json);
  if (type == "BertProcessing" || type == "RobertaProcessing") return Template{{pair_id(json, "cls")}, {pair_id(json, "sep")}};
  if (type == "ByteLevel") return Template{};
  if (type == "Sequence") {
    Template out;
    for (const auto& part : json.value("processors", Json::array())) {
      auto made = make_template(part);
      if (!made) return made;
      out.before.insert(out.before.begin(), made->before.begin(), made->before.end());
      out.after.insert(out.after.end(), made->after.begin(), made->after.end());
      if (out.before.size() + out.after.size() > kMostAround) return fail("the post-processors put more than {} tokens around a text", kMostAround);
    }
    return out;
  }
  return fail("the post-processor '{}' is not known", type);
}

}  // namespace deepseek::formats
