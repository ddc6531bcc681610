// Rows that mix a sample with a background, each different one scored once: where a background row shares values with the sample, and where few features are
// unknown, coalitions give the same rows again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"

namespace deepseek::explain {

class MixedRows {
 public:
  using Scorer = std::function<base::Result<std::vector<double>>(std::span<const double> rows)>;

  /// row [features], one at least; background [count, features], count >= 1; values are equal where their bits are.
  MixedRows(std::span<const double> row, std::span<const double> background);

  /// Mean score over the background of each coalition [worth.size(), features], 1 where a feature has the row's value; the scorer gets at most `rows_at_a_time` rows.
  [[nodiscard]] base::Status mean_scores(const Scorer& scorer, std::span<const uint8_t> coalitions, int64_t rows_at_a_time, std::span<double> worth);
  [[nodiscard]] int64_t rows_scored() const { return rows_scored_; }

 private:
  // A row by two sums of 64 random bits for each of its values: of 10^7 rows any two are confused with a probability of 10^-24.
  struct Key {
    uint64_t first = 0, second = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Slot {
    Key key;
    uint32_t score = kFree;
  };
  static constexpr uint32_t kFree = ~uint32_t{0};

  void mix_keys(const uint8_t* known);
  uint32_t place_of(const Key& key);
  void grow();
  base::Status score_new(const Scorer& scorer, int64_t rows_at_a_time);

  size_t features_, count_;
  std::vector<double> row_, background_;
  std::vector<Key> whole_, change_;  // [count]: of the background rows; [features, count]: what the row's value changes
  std::vector<Key> mixed_;           // [count], of one coalition
  std::vector<Slot> table_;          // open addressing
  std::vector<double> scores_;       // of the different rows
  std::vector<double> waiting_;      // rows that have no score yet, the last ones of scores_
  int64_t rows_scored_ = 0;
};

}  // namespace deepseek::explain
