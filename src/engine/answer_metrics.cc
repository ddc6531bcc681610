#include "engine/answer_metrics.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "base/text.h"

namespace deepseek::engine {
namespace {

// Code points of well-formed UTF-8.
std::u32string code_points(std::string_view raw) {
  const std::string text = base::to_valid_utf8(raw);
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t c = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; ++i) c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
    out += c;
    at += length;
  }
  return out;
}

void append(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)), static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

bool is_punctuation(char32_t c) {
  if (c < 128) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  return (U_MASK(u_charType(static_cast<UChar32>(c))) & U_GC_P_MASK) != 0;
}

bool is_word_of_its_own(char32_t c) { return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x3040 && c <= 0x30FF) || (c >= 0x20000 && c <= 0x2FFFF); }

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") words.push_back(word);
    word.clear();
  };
  for (const char32_t c : code_points(text)) {
    if (is_punctuation(c)) continue;
    if (u_isUWhiteSpace(static_cast<UChar32>(c)) != 0) {
      end_word();
    } else if (is_word_of_its_own(c)) {
      end_word();
      append(word, c);
      end_word();
    } else {
      append(word, static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
    }
  }
  end_word();
  return words;
}

AnswerScore score(const std::vector<std::string>& prediction, const std::vector<std::string>& gold) {
  AnswerScore out;
  out.exact_match = prediction == gold ? 1 : 0;
  if (prediction.empty() || gold.empty()) {
    out.f1 = out.exact_match;
    return out;
  }
  std::map<std::string, int> counts;
  for (const auto& word : gold) ++counts[word];
  int common = 0;
  for (const auto& word : prediction) common += counts[word]-- > 0 ? 1 : 0;
  if (common == 0) return out;
  const double precision = common / static_cast<double>(prediction.size()), recall = common / static_cast<double>(gold.size());
  out.f1 = 2 * precision * recall / (precision + recall);
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The number that begins at text[at] (a digit, or a point before one); `at` moves behind it.
double number_at(const std::string& text, size_t& at) {
  std::string digits;
  if (at > 0 && text[at - 1] == '-' && (at == 1 || !is_digit(text[at - 2]))) digits += '-';
  bool point = false;
  for (; at < text.size(); ++at) {
    const bool separator = text[at] == ',' && at + 3 < text.size() + 0 && is_digit(text[at + 1]) && is_digit(text[at + 2]) && is_digit(text[at + 3]);
    if (is_digit(text[at])) {
      digits += text[at];
    } else if (text[at] == '.' && !point && at + 1 < text.size() && is_digit(text[at + 1])) {
      point = true;
      digits += '.';
    } else if (!separator || point) {
      break;
    }
  }
  if (at + 1 < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    size_t exponent = at + 1;
    if (text[exponent] == '-' || text[exponent] == '+') ++exponent;
    if (exponent < text.size() && is_digit(text[exponent])) {
      size_t end = exponent;
      while (end < text.size() && is_digit(text[end])) ++end;
      digits += text.substr(at, end - at);
      at = end;
    }
  }
  return std::strtod(digits.c_str(), nullptr);
}

}  // namespace

std::string normalize_answer(std::string_view text) {
  std::string out;
  for (const auto& word : words_of(text)) out += (out.empty() ? "" : " ") + word;
  return out;
}

AnswerScore score_answer(std::string_view prediction, const std::vector<std::string>& golds) {
  AnswerScore best;
  const auto words = words_of(prediction);
  for (const auto& gold : golds) {
    const AnswerScore now = score(words, words_of(gold));
    best.exact_match = std::max(best.exact_match, now.exact_match);
    best.f1 = std::max(best.f1, now.f1);
  }
  return best;
}

std::optional<double> final_number(std::string_view raw) {
  std::string text(raw), lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  size_t begin = 0;
  for (const std::string mark : {"answer:", "答案:", "答案："}) {
    if (const size_t found = lower.rfind(mark); found != std::string::npos) begin = std::max(begin, found + mark.size());
  }
  std::optional<double> last;
  for (size_t at = begin; at < text.size();) {
    if (is_digit(text[at]) || (text[at] == '.' && at + 1 < text.size() && is_digit(text[at + 1]))) {
      last = number_at(text, at);
    } else {
      ++at;
    }
  }
  return last;
}

bool numbers_match(double prediction, double gold, const NumericTolerance& tolerance) {
  return std::abs(prediction - gold) <= std::max(tolerance.absolute, tolerance.relative * std::abs(gold));
}

std::optional<bool> numeric_match(std::string_view prediction, std::string_view gold, const NumericTolerance& tolerance) {
  const auto wanted = final_number(gold);
  if (!wanted) return std::nullopt;
  const auto got = final_number(prediction);
  return got && numbers_match(*got, *wanted, tolerance);
}

}  // namespace deepseek::engine
