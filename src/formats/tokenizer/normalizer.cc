// Normalizers of tokenizer.json.
#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "formats/tokenizer/component.h"
#include "formats/tokenizer/regex.h"
#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;
using Made = Result<std::unique_ptr<Normalizer>>;

template <typename Function>
class Simple : public Normalizer {
 public:
  explicit Simple(Function function) : function_(std::move(function)) {}
  void apply(std::string& text) const override { function_(text); }

 private:
  Function function_;
};

template <typename Function>
std::unique_ptr<Normalizer> simple(Function function) {
  return std::make_unique<Simple<Function>>(std::move(function));
}

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {
    for (const auto& part : parts_) growth *= part->growth;
  }
  void apply(std::string& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

template <typename Keep>
void filter(std::string& text, Keep keep) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (keep(next_character(text, at))) out.append(text, begin, at - begin);
  }
  text = std::move(out);
}

void strip(std::string& text, bool left, bool right) {
  const std::u32string wide = to_utf32(text);
  size_t begin = 0, end = wide.size();
  while (left && begin < end && is_white_space(wide[begin])) ++begin;
  while (right && end > begin && is_white_space(wide[end - 1])) --end;
  text.clear();
  for (size_t i = begin; i < end; ++i) append_utf8(text, wide[i]);
}

bool is_cjk(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void clean_bert(std::string& text, bool clean, bool chinese) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    const bool blank = c == '\t' || c == '\n' || c == '\r';
    if (clean && !blank && (c == 0 || c == 0xFFFD || (category_mask_unicode8(c) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK)) != 0)) continue;
    if (clean && (blank || is_white_space(c))) {
      out += ' ';
    } else if (chinese && is_cjk(c)) {
      out += ' ';
      append_utf8(out, c);
      out += ' ';
    } else {
      append_utf8(out, c);
    }
  }
  text = std::move(out);
}

Made bert(const Json& json) {
  const bool clean = flag_of(json, "clean_text", true), chinese = flag_of(json, "handle_chinese_chars", true), lower = flag_of(json, "lowercase", true);
  const bool accents = flag_of(json, "strip_accents", lower);
  return simple([=](std::string& text) {
    if (clean || chinese) clean_bert(text, clean, chinese);
    if (accents) {
      text = normalized(text, "nfd");
      filter(text, [](char32_t c) { return (category_mask_unicode8(c) & U_GC_MN_MASK) == 0; });
    }
    if (lower) text = lowercased(text);
  });
}

// Rare characters become 18; three is what a text of one script can reach.
std::unique_ptr<Normalizer> unicode_form(const char* form) {
  return growing(simple([form](std::string& text) { text = normalized(text, form); }), 3);
}

Made replace(const Json& json) {
  auto regex = pattern_of(json, "Replace normalizer");
  if (!regex) return base::pass(regex);
  const std::string content = text_of(json, "content");
  return growing(simple([regex = *regex, content](std::string& text) { regex.replace(text, content); }), regex->growth_by(content));
}

void nmt(std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    const bool removed = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    if (removed) continue;
    const bool blank = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                       c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    append_utf8(out, blank ? U' ' : c);
  }
  text = std::move(out);
}

// SentencePiece's precompiled map: a double-array trie of the texts to replace, then the replacements, each ended by 0.
class Precompiled : public Normalizer {
 public:
  Precompiled(std::vector<uint32_t> trie, std::string replacements) : trie_(std::move(trie)), replacements_(std::move(replacements)) {}
  // Whole grapheme clusters first, as `tokenizers` does, then single characters.
  void apply(std::string& text) const override {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t end = cluster_end(text, at);
      const std::string_view cluster(text.data() + at, end - at);
      const char* whole = cluster.size() < 6 ? lookup(cluster) : nullptr;
      if (whole != nullptr) {
        out += whole;
      } else {
        for (size_t c = 0; c < cluster.size();) {
          const size_t begin = c;
          (void)next_character(cluster, c);
          const std::string_view character = cluster.substr(begin, c - begin);
          const char* mapped = lookup(character);
          mapped != nullptr ? out += mapped : out += character;
        }
      }
      at = end;
    }
    text = std::move(out);
  }

 private:
  // A base character and the marks, joiners and joined characters behind it: enough of a cluster for what the map holds.
  static size_t cluster_end(const std::string& text, size_t at) {
    char32_t last = next_character(text, at);
    while (at < text.size()) {
      size_t next = at;
      const char32_t c = next_character(text, next);
      const bool extends = u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_GRAPHEME_EXTEND) != 0 || (category_mask(c) & U_GC_MC_MASK) != 0 || c == 0x200D;
      const bool line = last == '\r' && c == '\n';
      if (!extends && !line) break;
      last = c;
      at = next;
    }
    return at;
  }
  // The replacement of the shortest entry that begins `key`, as the original takes the first result of a prefix search.
  [[nodiscard]] const char* lookup(std::string_view key) const {
    size_t node = 0;
    uint32_t unit = trie_[0];
    node ^= offset_of(unit);
    for (const char c : key) {
      const auto label = static_cast<unsigned char>(c);
      if (label == 0) return nullptr;
      node ^= label;
      if (node >= trie_.size()) return nullptr;
      unit = trie_[node];
      if ((unit & 0x800000FFu) != label) return nullptr;
      node ^= offset_of(unit);
      if ((unit >> 8 & 1) != 0) {
        if (node >= trie_.size()) return nullptr;
        const uint32_t value = trie_[node] & 0x7FFFFFFFu;
        // An offset into the middle of a character would make text that is no UTF-8.
        return value < replacements_.size() && (replacements_[value] & 0xC0) != 0x80 ? replacements_.c_str() + value : nullptr;
      }
    }
    return nullptr;
  }
  static size_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }
  std::vector<uint32_t> trie_;
  std::string replacements_;
};

Result<std::string> base64(const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=' || c == '\n') continue;
    const char* alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char* found = std::strchr(alphabet, c);
    if (found == nullptr || c == 0) return fail("a precompiled map is not base64");
    bits = bits << 6 | static_cast<uint32_t>(found - alphabet);
    if (++count % 4 != 1) out += static_cast<char>(bits >> (6 - 2 * ((count - 1) % 4)) & 0xFF);
  }
  return out;
}

Made precompiled(const Json& json) {
  auto bytes = base64(text_of(json, "precompiled_charsmap"));
  if (!bytes) return base::pass(bytes);
  uint32_t size = 0;
  if (bytes->empty()) return simple([](std::string&) {});
  if (bytes->size() >= 4) std::memcpy(&size, bytes->data(), 4);
  if (bytes->size() < 8 || size % 4 != 0 || size == 0 || size > bytes->size() - 4) return fail("a precompiled map is shorter than it says");
  std::vector<uint32_t> trie(size / 4);
  std::memcpy(trie.data(), bytes->data() + 4, size);
  std::string replacements = bytes->substr(4 + size);
  if (!base::is_utf8(replacements)) return fail("the replacements of a precompiled map are not UTF-8");
  size_t longest = 0;
  for (size_t at = 0; at < replacements.size(); at += std::strlen(replacements.c_str() + at) + 1) longest = std::max(longest, std::strlen(replacements.c_str() + at));
  return growing(std::make_unique<Precompiled>(std::move(trie), std::move(replacements)), static_cast<double>(longest));
}

}  // namespace

std::string text_of(const Json& json, const char* key, const std::string& fallback) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : fallback;
}

bool flag_of(const Json& json, const char* key, bool fallback) {
  const auto found = json.find(key);
  return found != json.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

std::string named_token(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  return found->is_object() ? text_of(*found, "content") : "";
}

Result<std::unique_ptr<Normalizer>> make_normalizer(const Json& json) {
  if (json.is_null()) return simple([](std::string&) {});
  if (!json.is_object()) return fail("a normalizer is no object");
  const std::string type = text_of(json, "type");
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const auto& part : json.value("normalizers", Json::array())) {
      auto made = make_normalizer(part);
      if (!made) return made;
      parts.push_back(std::move(*made));
    }
    return std::make_unique<Sequence>(std::move(parts));
  }
  if (type == "NFC") return unicode_form("nfc");
  if (type == "NFD") return unicode_form("nfd");
  if (type == "NFKC") return unicode_form("nfkc");
  if (type == "NFKD") return unicode_form("nfkd");
  if (type == "Lowercase") return simple([](std::string& text) { text = lowercased(text); });
  if (type == "StripAccents") return simple([](std::string& text) { filter(text, [](char32_t c) { return !is_mark(c); }); });
  if (type == "Strip") {
    return simple([left = flag_of(json, "strip_left", true), right = flag_of(json, "strip_right", true)](std::string& text) { strip(text, left, right); });
  }
  if (type == "Prepend") {
    return simple([prefix = text_of(json, "prepend")](std::string& text) {
      if (!text.empty()) text.insert(0, prefix);
    });
  }
  if (type == "Replace") return replace(json);
  if (type == "BertNormalizer") return bert(json);
  if (type == "Nmt") return simple([](std::string& text) { nmt(text); });
  if (type == "Precompiled") return precompiled(json);
  if (type == "ByteLevel") return growing(simple([](std::string& text) { text = bytes_to_characters(text); }), 2);
  return fail("the normalizer '{}' is not known", type);
}

}  // namespace deepseek::formats
