#include "engine/answer_metrics.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>

#include "base/text.h"

namespace deepseek::engine {
namespace {

// Han, Hiragana, Katakana: written without spaces between words.
bool is_cjk(UChar32 c) {
  static constexpr std::pair<UChar32, UChar32> kRanges[] = {
      {0x2e80, 0x2fdf}, {0x3005, 0x3007},   {0x3041, 0x30ff},   {0x31f0, 0x31ff},
      {0x3400, 0x4dbf}, {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0xff66, 0xff9d},
      {0x20000, 0x3ffff},
  };
  return std::any_of(std::begin(kRanges), std::end(kRanges), [c](const auto& r) { return c >= r.first && c <= r.second; });
}

bool is_punctuation(UChar32 c) {
  if (c < 0x80) return std::string_view("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~").find(static_cast<char>(c)) != std::string_view::npos;
  return u_ispunct(c) != 0;
}

// Letters and numbers, as Python's \w has them.
bool is_word(UChar32 c) {
  const uint32_t mask = U_GET_GC_MASK(c);
  return (mask & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

bool is_space(UChar32 c) { return u_isUWhiteSpace(c) != 0 || (c >= 0x1c && c <= 0x1f); }

std::u32string lower_without_punctuation(std::string_view text) {
  const std::string valid = base::to_valid_utf8(text);
  icu::UnicodeString unicode = icu::UnicodeString::fromUTF8(valid);
  unicode.toLower(icu::Locale::getRoot());
  std::u32string out;
  for (int32_t i = 0; i < unicode.length(); i = unicode.moveIndex32(i, 1)) {
    const UChar32 c = unicode.char32At(i);
    if (!is_punctuation(c)) out.push_back(static_cast<char32_t>(c));
  }
  return out;
}

void remove_articles(std::u32string& text) {
  for (size_t begin = 0; begin < text.size();) {
    if (!is_word(static_cast<UChar32>(text[begin]))) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < text.size() && is_word(static_cast<UChar32>(text[end]))) ++end;
    const std::u32string_view word(text.data() + begin, end - begin);
    if (word == U"a" || word == U"an" || word == U"the") std::fill(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end), U' ');
    begin = end;
  }
}

std::vector<std::u32string> words_of(std::string_view text) {
  std::u32string plain = lower_without_punctuation(text);
  remove_articles(plain);
  std::vector<std::u32string> words;
  bool open = false;
  for (const char32_t c : plain) {
    const bool cjk = is_cjk(static_cast<UChar32>(c));
    if (is_space(static_cast<UChar32>(c))) {
      open = false;
    } else if (open && !cjk) {
      words.back().push_back(c);
    } else {
      words.emplace_back(1, c);
      open = !cjk;
    }
  }
  return words;
}

double f1(const std::vector<std::u32string>& prediction, const std::vector<std::u32string>& gold) {
  if (prediction.empty() || gold.empty()) return prediction.empty() && gold.empty() ? 1 : 0;
  std::map<std::u32string_view, int> left;
  for (const auto& word : gold) ++left[word];
  int common = 0;
  for (const auto& word : prediction) {
    const auto found = left.find(word);
    if (found != left.end() && found->second-- > 0) ++common;
  }
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(prediction.size());
  const double recall = static_cast<double>(common) / static_cast<double>(gold.size());
  return 2 * precision * recall / (precision + recall);
}

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// Digits, thousands separators, fraction, exponent from `at` on; moves `at` behind them. The digits without separators.
std::string read_number(std::string_view text, size_t& at) {
  std::string digits;
  const auto is_digit = [&](size_t i) { return i < text.size() && digit(text[i]); };
  const auto take_digits = [&] {
    while (is_digit(at)) digits.push_back(text[at++]);
  };
  take_digits();
  const auto group = [&] { return at < text.size() && text[at] == ',' && is_digit(at + 1) && is_digit(at + 2) && is_digit(at + 3) && !is_digit(at + 4); };
  while (!digits.empty() && digits.size() <= 3 && group()) {
    while (group()) {
      ++at;
      take_digits();
    }
  }
  if (at < text.size() && text[at] == '.' && is_digit(at + 1)) {
    if (digits.empty()) digits.push_back('0');
    digits.push_back(text[at++]);
    take_digits();
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    const size_t sign = at + 1 < text.size() && (text[at + 1] == '-' || text[at + 1] == '+') ? 1 : 0;
    if (is_digit(at + 1 + sign)) {
      digits.push_back('e');
      if (sign != 0 && text[at + 1] == '-') digits.push_back('-');
      at += 1 + sign;
      take_digits();
    }
  }
  return digits;
}

// A sign directly before the number (a currency symbol may stand between), and nothing before it that it could subtract from.
bool is_negative(std::string_view before) {
  for (const std::string_view symbol : {"$", "€", "£", "¥", "￥"}) {
    if (before.ends_with(symbol)) {
      before.remove_suffix(symbol.size());
      break;
    }
  }
  const std::string_view minus = before.ends_with("-") ? "-" : "\u2212";
  if (!before.ends_with(minus)) return false;
  before.remove_suffix(minus.size());
  return before.empty() || !(digit(before.back()) || letter(before.back()) || before.back() == ')' || before.back() == '%');
}

std::optional<double> last_number(std::string_view text) {
  std::optional<double> last;
  for (size_t at = 0; at < text.size();) {
    const bool fraction = text[at] == '.' && at + 1 < text.size() && digit(text[at + 1]) && (at == 0 || !digit(text[at - 1]));
    if (!digit(text[at]) && !fraction) {
      ++at;
      continue;
    }
    const size_t begin = at;
    const std::string digits = read_number(text, at);
    if (begin > 0 && letter(text[begin - 1])) continue;  // part of a name: Q3, CO2
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc()) last = is_negative(text.substr(0, begin)) ? -value : value;
  }
  return last;
}

}  // namespace

std::string normalize_answer(std::string_view text) {
  icu::UnicodeString joined;
  for (const std::u32string& word : words_of(text)) {
    if (!joined.isEmpty()) joined.append(static_cast<UChar32>(' '));
    for (const char32_t c : word) joined.append(static_cast<UChar32>(c));
  }
  std::string out;
  joined.toUTF8String(out);
  return out;
}

AnswerScore score_answer(std::string_view prediction, const std::vector<std::string>& golds) {
  AnswerScore best;
  const auto predicted = words_of(prediction);
  for (const std::string& gold : golds) {
    const auto expected = words_of(gold);
    best.exact_match = std::max(best.exact_match, predicted == expected ? 1.0 : 0.0);
    best.f1 = std::max(best.f1, f1(predicted, expected));
  }
  return best;
}

std::optional<double> final_number(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  size_t begin = 0;
  for (const std::string_view mark : {"answer:", "answer：", "答案:", "答案："}) {
    const size_t at = lower.rfind(mark);
    if (at != std::string::npos) begin = std::max(begin, at + mark.size());
  }
  return last_number(text.substr(begin));
}

bool numbers_match(double prediction, double gold, const NumericTolerance& tolerance) {
  return std::abs(prediction - gold) <= std::max(tolerance.absolute, tolerance.relative * std::abs(gold));
}

std::optional<bool> numeric_match(std::string_view prediction, std::string_view gold, const NumericTolerance& tolerance) {
  const auto expected = final_number(gold), got = final_number(prediction);
  if (!expected) return std::nullopt;
  return got && numbers_match(*got, *expected, tolerance);
}

}  // namespace deepseek::engine
