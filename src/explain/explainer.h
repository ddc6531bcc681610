// Explanations of a model of rows: picks the way to compute them, and gives every node of the feature tree its value.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "explain/estimate.h"
#include "explain/feature_tree.h"
#include "explain/interaction.h"
#include "explain/table_model.h"
#include "explain/tree_shap/tree_shap.h"

namespace deepseek::explain {

/// What an unknown feature is taken to be.
enum class Worth : uint8_t {
  kMarginal,     ///< as in the rows of the background, whatever the known features are
  kConditional,  ///< as in those rows of the background that are most like the sample in the known features
  kPath,         ///< trees: as in the training rows that came to each split
};

enum class Engine : uint8_t {
  kAuto,
  kExact,      ///< all coalitions
  kTrees,      ///< exact, for tree ensembles
  kLinear,     ///< exact, for linear models
  kGradients,  ///< expected gradients, or integrated ones from a background of one row, for differentiable models: no Shapley values, but as cheap as one call a point
  kEstimate,   ///< from sampled coalitions
};

struct ExplainOptions {
  Engine engine = Engine::kAuto;
  Worth worth = Worth::kMarginal;
  int64_t output = 0;          ///< of the model's scores
  int64_t background = 100;    ///< rows that an unknown feature's values come from
  int64_t budget = 0;          ///< coalitions of a row (or gradients); 0: as the engine thinks right
  double precision = 0;        ///< in units of the score; the estimate stops where every interval is as narrow
  double confidence = 0.95;
  int64_t pairs = 10;          ///< strongest interactions; 0: none are computed
  InteractionIndex index = InteractionIndex::kShapley;
  uint64_t seed = 0;
  int threads = 0;             ///< 0: all
};

/// "marginal", "conditional", "path"; "auto", "exact", "trees", "linear", "gradients", "estimate". Refuses other names.
[[nodiscard]] base::Result<Worth> worth_named(const std::string& name);
[[nodiscard]] base::Result<Engine> engine_named(const std::string& name);

/// One row's. values [nodes]: a group's is the sum of its children's, the root's is score - base.
struct LocalExplanation {
  std::vector<double> values, half_width;  ///< [nodes]; 0 wide: exact
  std::vector<uint8_t> open;               ///< [nodes]; 0: the nodes below have no values of their own
  std::vector<PairEstimate> pairs;         ///< strongest first
  double base = 0, score = 0;
  int64_t asked = 0;                       ///< coalitions, or gradients
  bool exact = true, precise = true;
  double gap = 0;                          ///< of gradients: what the values miss of score - base; it is in no value
};

/// What an estimate says of one row.
[[nodiscard]] LocalExplanation local_of(Estimate estimate);

/// Of many rows.
struct GlobalExplanation {
  std::vector<double> importance, half_width, mean;  ///< [nodes]: mean |value|, its interval (over the rows), mean value
  std::vector<PairEstimate> pairs;                   ///< mean |interaction|
  std::vector<LocalExplanation> rows;
  double base = 0;
  std::string stopped;                               ///< why not all rows are there: the model's error, or "interrupted"; "": all are
};

class Explainer {
 public:
  /// background: rows [count, features] to draw from. The tree's features are the model's columns in their order.
  /// Refuses what does not go together: trees without trees, an output that there is not, no background, background rows of another width, a budget of
  /// too few coalitions or too many, interactions of more features than fit in memory.
  [[nodiscard]] static base::Result<Explainer> create(TableModel model, FeatureTree tree, std::span<const double> background, const ExplainOptions& options);

  /// Another output of the model from now on; refuses one that there is not.
  [[nodiscard]] base::Status choose_output(int64_t output);

  [[nodiscard]] base::Result<LocalExplanation> explain(std::span<const double> row) const;
  /// on_progress(rows done). stop_requested, and a model that fails, end it with what is there if that are two rows or more (`stopped` says so).
  [[nodiscard]] base::Result<GlobalExplanation> explain_all(std::span<const double> rows, const std::function<void(int64_t)>& on_progress = {},
                                                            const std::function<bool()>& stop_requested = {}) const;

  [[nodiscard]] const TableModel& model() const { return model_; }
  [[nodiscard]] const FeatureTree& tree() const { return tree_; }
  [[nodiscard]] Engine engine() const { return engine_; }
  [[nodiscard]] std::string engine_text() const;  ///< for people
  [[nodiscard]] int64_t background_rows() const { return static_cast<int64_t>(background_.size()) / features_; }

 private:
  Explainer(TableModel model, FeatureTree tree, std::span<const double> background, const ExplainOptions& options);
  base::Result<LocalExplanation> by_game(std::span<const double> row) const;
  base::Result<LocalExplanation> by_gradients(std::span<const double> row) const;
  [[nodiscard]] TreeWorth tree_worth() const;
  [[nodiscard]] LocalExplanation by_trees(std::span<const double> values, double base, std::span<const double> pairs) const;
  base::Result<LocalExplanation> by_weights(std::span<const double> row) const;
  base::Result<std::vector<LocalExplanation>> of_rows(std::span<const double> rows, const std::function<void(int64_t)>& on_progress, const std::function<bool()>& stop_requested,
                                                      std::string& stopped) const;
  [[nodiscard]] std::vector<double> from_features(std::span<const double> of_features) const;
  [[nodiscard]] std::vector<PairEstimate> strongest(std::span<const double> pairs) const;

  TableModel model_;
  FeatureTree tree_;
  std::vector<double> pool_, background_;  // all rows to look for like ones in; those that stand for unknown features
  std::vector<double> means_;              // of the background, for a linear model
  ExplainOptions options_;
  Engine engine_ = Engine::kAuto;
  int64_t features_ = 0;
};

}  // namespace deepseek::explain
