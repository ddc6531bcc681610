// What an explanation says in words; the text report and the page tell the same sentences.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "explain/report/document.h"
#include "explain/report/words.h"

namespace deepseek::explain {

/// A document told in one language.
struct Teller {
  const Document& document;
  Words say;
  Figures figures;       ///< of the sample's values, the base value and the score
  Figures mean_figures;  ///< of the importance over all rows

  Teller(const Document& document, Language language, const std::string& minus = "-");

  /// "income = >50K", "the prediction".
  [[nodiscard]] std::string subject() const;
  /// "income = >50K: 60.1%"; without a sample "What matters for income = >50K".
  [[nodiscard]] std::string conclusion() const;
  /// "log-odds 0.41; the average over 100 background rows is -1.21, which is 23.0%. The data says: >50K."
  [[nodiscard]] std::string conclusion_detail() const;
  /// Sentences about the sample: where the score stands, what raises and lowers it, what cannot be told apart from 0, the strongest interaction.
  [[nodiscard]] std::vector<std::string> sample_sentences() const;
  /// Sentences about all rows: what matters, in which direction, what belongs together.
  [[nodiscard]] std::vector<std::string> row_sentences() const;
  /// "together they put the score 0.12 above the sum of each alone"; of all rows ("mean") without the sign.
  [[nodiscard]] std::string interaction_sentence(const ShownInteraction& interaction, bool of_all_rows) const;
  /// "higher together than apart".
  [[nodiscard]] std::string interaction_hint(const ShownInteraction& interaction) const;
  /// "capital_gain × age".
  [[nodiscard]] std::string interaction_name(const ShownInteraction& interaction) const;
  /// Where an input's size moves the score, from the points: "high raises", "Husband +0.91, Own-child -1.02"; "" where nothing can be said.
  [[nodiscard]] std::string direction(int node) const;
  /// "High values of age raise the score."
  [[nodiscard]] std::string direction_sentence(int node) const;
  /// How all this was computed: label and text.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> method() const;
  /// "{n} other features".
  [[nodiscard]] std::string others(int count) const;

  /// "500 of 9,917 rows", "all 500 rows".
  [[nodiscard]] std::string rows_explained() const;
  /// Input of a leaf of the sample: "39", "missing"; "" where there is none.
  [[nodiscard]] std::string input(int node) const;
  /// Name and input of a leaf: "age = 39".
  [[nodiscard]] std::string name_and_input(int node) const;
  /// The base value after the link (23.0% of -1.21 log-odds), where the link is known.
  [[nodiscard]] std::optional<std::string> linked_base() const;
  /// The prediction as people say it: a percentage, or a figure.
  [[nodiscard]] std::string prediction() const;
  [[nodiscard]] std::string base_name() const;

 private:
  [[nodiscard]] std::string movers(bool up) const;
  [[nodiscard]] std::string quoted_subject() const;
  [[nodiscard]] std::string uncertain(const std::vector<double>& values, const std::vector<double>& half_widths) const;
};

/// Leaves by falling size of `column` (a number for each node).
[[nodiscard]] std::vector<int> leaves_by_size(const Document& document, const std::vector<double>& column);

/// Marks the `count` leaves that are greatest in `column`, and the groups above them, in `kept` (one entry for each node); also a leaf that alone
/// would be left out of its group.
void keep_strongest(const Document& document, const std::vector<double>& column, size_t count, std::vector<bool>& kept);

}  // namespace deepseek::explain
