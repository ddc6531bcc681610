// What is explained: a game, in which sets of players (features that are known) are worth something (the model's score).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/mixed_rows.h"

namespace deepseek::explain {

/// Any model: rows [count, features] to one score each. An error ends the explanation; NaN is refused.
using Scorer = MixedRows::Scorer;

class Game {
 public:
  virtual ~Game() = default;
  [[nodiscard]] virtual int64_t players() const = 0;
  /// worth[i] of coalition i; coalitions: [worth.size(), players()], 1 where a player takes part.
  [[nodiscard]] virtual base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) = 0;
};

/// A function of coalitions as a game.
class FunctionGame : public Game {
 public:
  using Worth = std::function<double(std::span<const uint8_t> coalition)>;
  FunctionGame(int64_t players, Worth worth) : players_(players), worth_(std::move(worth)) {}
  [[nodiscard]] int64_t players() const override { return players_; }
  [[nodiscard]] base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) override;

 private:
  int64_t players_;
  Worth worth_;
};

/// Marginal (interventional) worth: the mean score of the background rows in which the coalition's features have the values of `row`.
class MarginalGame : public Game {
 public:
  /// row [features]; background [count, features], count >= 1.
  MarginalGame(Scorer scorer, std::vector<double> row, std::vector<double> background, int64_t rows_at_a_time = 16384);

  [[nodiscard]] int64_t players() const override { return players_; }
  [[nodiscard]] base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) override;
  /// Different rows that the model was asked for.
  [[nodiscard]] int64_t rows_scored() const { return rows_.rows_scored(); }

 private:
  Scorer scorer_;
  MixedRows rows_;
  int64_t players_, rows_at_a_time_;
};

/// Conditional worth (observed dependence): a weighted mean of the score over the `neighbours` rows of the pool that are nearest to the row in the coalition's
/// features, with the row's values there. Distance: difference in rank for numbers, 0 or 1 for categories; weights exp(-d^2 / 2h^2), h^2 the mean d^2 of those
/// rows. After the empirical estimator of Aas, Jullum, Loland 2021.
class ConditionalGame : public Game {
 public:
  /// row [features]; pool [count, features], count >= 1; is_category [features] (empty: none), 1 for codes.
  ConditionalGame(Scorer scorer, std::vector<double> row, std::vector<double> pool, int64_t neighbours, std::vector<uint8_t> is_category);

  [[nodiscard]] int64_t players() const override { return static_cast<int64_t>(row_.size()); }
  [[nodiscard]] base::Status worth(std::span<const uint8_t> coalitions, std::span<double> worth) override;

 private:
  Scorer scorer_;
  std::vector<double> row_, pool_;
  size_t neighbours_;
  std::vector<double> squares_;  // [count, features]: squared distance to the row
};

}  // namespace deepseek::explain
