#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/tokenizer/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>

#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

base::Result<Regex> Regex::compile(const std::string& expression) {
  if (expression.size() > 65536) return base::fail("a regular expression of {} bytes is too long", expression.size());
  int error = 0;
  size_t at = 0;
  auto code = std::make_shared<Code>();
  // Oniguruma's ^ and $ match at every line. \C would cut characters, which nothing after it expects.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), kOptions, &error, &at, nullptr);
  if (code->code == nullptr) {
    std::array<char, 256> message{};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message.data()), message.size());
    return base::fail("the regular expression '{}' is wrong at character {}: {}", expression.substr(0, 200), at + 1, message.data());
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->context, 10'000'000);
  Regex regex;
  regex.code_ = std::move(code);
  return regex;
}

Regex Regex::literal(const std::string& text) {
  Regex regex;
  regex.literal_ = text;
  return regex;
}

std::vector<std::pair<size_t, size_t>> Regex::matches(std::string_view text) const {
  std::vector<std::pair<size_t, size_t>> out;
  if (!code_) {
    if (literal_.empty()) return out;
    for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, at + literal_.size())) out.emplace_back(at, at + literal_.size());
    return out;
  }
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  for (size_t at = 0; at <= text.size();) {
    const int count = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), code_->context);
    if (count < 0) break;
    const size_t* found = pcre2_get_ovector_pointer(data.get());
    if (found[1] > found[0]) {
      out.emplace_back(found[0], found[1]);
      at = found[1];
    } else {
      if (found[0] >= text.size()) break;
      at = found[0] + utf8_length(text[found[0]]);
    }
  }
  return out;
}

void Regex::replace(std::string& text, const std::string& by) const {
  const auto found = matches(text);
  if (found.empty()) return;
  std::string out;
  size_t done = 0;
  for (const auto& [begin, end] : found) {
    out.append(text, done, begin - done);
    out += by;
    done = end;
  }
  out.append(text, done);
  text = std::move(out);
}

double Regex::growth_by(const std::string& by) const {
  const size_t shortest = code_ || literal_.empty() ? 1 : literal_.size();
  return std::max(1.0, static_cast<double>(by.size()) / static_cast<double>(shortest));
}

base::Result<Regex> pattern_of(const nlohmann::json& json, const char* what) {
  const auto pattern = json.find("pattern");
  if (pattern == json.end() || !pattern->is_object()) return base::fail("a {} has no pattern", what);
  for (const char* kind : {"String", "Regex"}) {
    const auto text = pattern->find(kind);
    if (text == pattern->end() || !text->is_string()) continue;
    return *kind == 'S' ? Regex::literal(text->get<std::string>()) : Regex::compile(text->get<std::string>());
  }
  return base::fail("the pattern of a {} is neither a String nor a Regex", what);
}

}  // namespace deepseek::formats
