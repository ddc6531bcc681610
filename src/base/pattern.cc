#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/pattern.h"

#include <pcre2.h>

#include <array>

namespace deepseek::base {

struct Pattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  [[nodiscard]] std::vector<std::string> match(std::string_view text, uint32_t options) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
        pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
    const int count = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, options, data.get(), context);
    std::vector<std::string> groups;
    const size_t* at = pcre2_get_ovector_pointer(data.get());
    for (int i = 0; i < count; ++i) {
      groups.emplace_back(at[2 * i] == PCRE2_UNSET ? std::string_view() : text.substr(at[2 * i], at[2 * i + 1] - at[2 * i]));
    }
    return groups;
  }
};

Result<Pattern> Pattern::compile(const std::string& expression) {
  int error = 0;
  size_t at = 0;
  auto code = std::make_shared<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), PCRE2_UTF, &error, &at, nullptr);
  if (code->code == nullptr) {
    std::array<char, 256> message{};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message.data()), message.size());
    return refuse("the pattern '{}' is wrong at character {}: {}", expression, at + 1, message.data());
  }
  code->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->context, 1'000'000);
  return Pattern(code);
}

bool Pattern::matches_all(std::string_view text) const {
  return !code_->match(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED).empty();
}

std::vector<std::string> Pattern::match_prefix(std::string_view text) const { return code_->match(text, PCRE2_ANCHORED); }

}  // namespace deepseek::base
