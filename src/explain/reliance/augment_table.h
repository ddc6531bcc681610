// A table changed as a plan says, so that a model that trains on it leans less on a feature. The plan is a JSON document that people read and edit.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "formats/table/table.h"

namespace deepseek::explain {

/// {"steps": [...]} and whatever else; each step is one of
///
///     {"step": "resample", "columns": ["occupation"], "strength": 1.5, "donors": "any"}
///         Counterfactual copies of every row that weigh `strength` (above 0, at most 16) times as much as the rows themselves, in which the columns are those of another
///         row, drawn at random: what else the row says stays, and so does its target. The columns then foretell the target only by what the others foretell too, in as far
///         as the copies weigh. "donors" (may be absent: "any"): "same class" draws from rows of the same class of the target, which leaves what the columns and the target have in
///         common and takes away what they have in common with the other columns alone.
///     {"step": "reweigh", "column": "occupation", "strength": 1}
///         Weighs the rows so that the column and the target become independent: by (p(column) p(target) / p(column, target))^strength, strength above 0 and at most 1;
///         numbers count by tenths of the rows, missing as a value of its own. Source: Kamiran, Calders 2012.
///
/// Steps are independent of each other: each is done to the rows of the table, not to copies.
struct AugmentedTable {
  formats::Table table;          ///< the rows of the table first, then the copies
  std::vector<double> weights;   ///< of its rows; TrainTableOptions::weights
  std::vector<int64_t> sources;  ///< of its rows; TrainTableOptions::sources, so that copies of rows that judge do not train
};

/// Refuses a plan that is no such document, with more than 32 steps or what they do not know; columns that are not there or the target; more than 2^31 rows.
[[nodiscard]] base::Result<AugmentedTable> augment_table(const formats::Table& table, const std::string& target, const nlohmann::ordered_json& plan, uint64_t seed = 0);

/// A plan from a file, of 16 MiB at most; augment_table() checks it. Errors name the file.
[[nodiscard]] base::Result<nlohmann::ordered_json> read_plan(const base::fs::path& path);

}  // namespace deepseek::explain
