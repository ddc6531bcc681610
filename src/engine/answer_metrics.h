// How right an answer is: exact match and F1 as SQuAD has them, and numbers within a tolerance.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek::engine {

/// Lower case, without punctuation and English articles, words separated by one space. Every Chinese or Japanese character is a word.
/// Sources: SQuAD's evaluation script (Rajpurkar et al. 2016); punctuation of all scripts and characters as words: MLQA (Lewis et al. 2019).
[[nodiscard]] std::string normalize_answer(std::string_view text);

struct AnswerScore {
  double exact_match = 0;  ///< 0 or 1
  double f1 = 0;           ///< of the words, 0..1
};
/// The best over `golds`, each of the two on its own; zeros where there are none. Two answers without words are equal.
[[nodiscard]] AnswerScore score_answer(std::string_view prediction, const std::vector<std::string>& golds);

/// The last number after the last "Answer:" (any case; also "答案:"), or in the whole text where it has no such mark. Reads signs,
/// decimals, exponents and thousands separators ("-1,234.5e3"); units, currency and percent signs around it are ignored.
[[nodiscard]] std::optional<double> final_number(std::string_view text);

struct NumericTolerance {
  double relative = 1e-4;
  double absolute = 1e-6;
};
/// |a - b| <= max(absolute, relative * |b|).
[[nodiscard]] bool numbers_match(double prediction, double gold, const NumericTolerance& tolerance = {});
/// The final numbers of both texts; false where the prediction has none, nothing where `gold` has none.
[[nodiscard]] std::optional<bool> numeric_match(std::string_view prediction, std::string_view gold, const NumericTolerance& tolerance = {});

}  // namespace deepseek::engine
