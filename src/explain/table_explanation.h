// From a model's name and a table to an explanation: what the command, and a server, do for a model of rows.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "explain/explainer.h"
#include "explain/report/write_document.h"
#include "explain/scorers/open_model.h"
#include "formats/table/table.h"

namespace deepseek::explain {

struct TableRequest {
  std::string model;                ///< as open_table_model() takes it
  base::fs::path data;              ///< rows to explain, and the background
  base::fs::path background_data;   ///< rows of the background; empty: those of `data`
  formats::TableOptions columns;
  std::string target;               ///< column that is no feature; "": what the model says
  std::string output;               ///< of the model: a name or a number; "": the first, or of one sample the one that the model foretells
  std::string units;                ///< of the scores, where the model does not say: "probability", "log-odds", "log"
  base::fs::path groups;            ///< of features; empty: none
  std::string tree;                 ///< "flat", "clustered", "groups" or "hybrid"; "": groups where there are any, clustered otherwise
  double highest = 0.7;             ///< distance (1 - dependence) up to which features are clustered
  base::fs::path remember;          ///< file of scores; empty: none
  std::string index = "SII";        ///< what options.index is called; k-SII has the pairs of SII
  ScorerOptions scorer;
  ExplainOptions options;
};

/// A table and a model that were opened for explanations.
class TableExplanation {
 public:
  /// Errors: of the files and the model, a target, output, tree or units that there are not, and those of Explainer::create().
  [[nodiscard]] static base::Result<TableExplanation> open(const TableRequest& request);

  [[nodiscard]] int64_t rows() const { return static_cast<int64_t>(rows_.size()) / explainer_->tree().feature_count(); }
  [[nodiscard]] const Explainer& explainer() const { return *explainer_; }
  [[nodiscard]] const formats::Table& table() const { return table_; }
  [[nodiscard]] const std::string& target() const { return target_; }
  /// What a reader must know: columns and categories that were read otherwise than they are written.
  [[nodiscard]] const std::vector<std::string>& notes() const { return origin_.notes; }
  /// 500 where rows are cheap, 50 where each is sampled.
  [[nodiscard]] int64_t usual_rows() const;

  /// The document of one row of the table; 0 is the first. For a classifier of several classes whose output was not asked for, of the class that it foretells.
  [[nodiscard]] base::Result<nlohmann::ordered_json> explain_sample(int64_t sample);
  /// Of `most` rows of the table, drawn by the seed; fewer where the table has no more.
  [[nodiscard]] base::Result<GlobalExplanation> explain_rows(int64_t most, const std::function<void(int64_t)>& on_progress = {}, const std::function<bool()>& stop_requested = {}) const;
  /// Of what explain_rows() gave for the same `most`.
  [[nodiscard]] nlohmann::ordered_json document(const GlobalExplanation& global, int64_t most) const;

 private:
  TableExplanation() = default;
  base::Status open_model(const TableRequest& request, TableModel& model);
  base::Status choose_output(const std::string& output, const TableModel& model);
  base::Result<FeatureTree> tree_for(const TableRequest& request, std::span<const double> background) const;
  void describe(const TableRequest& request);
  [[nodiscard]] std::vector<int64_t> chosen_rows(int64_t most) const;
  [[nodiscard]] std::vector<double> picked(const std::vector<int64_t>& rows) const;
  [[nodiscard]] std::vector<SampleText> texts(const std::vector<int64_t>& rows) const;
  [[nodiscard]] std::optional<double> prediction(std::span<const double> scores) const;

  formats::Table table_;
  std::vector<FeatureText> features_;
  std::vector<double> rows_;  // [rows of the table, features]
  std::string target_;
  bool output_chosen_ = false;
  ExplainOptions options_;
  std::optional<Explainer> explainer_;
  Origin origin_;
};

}  // namespace deepseek::explain
