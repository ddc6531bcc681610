// What the columns of a table mean to a model: names, categories, the target; and tables as the rows that a model reads.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/table_model.h"
#include "formats/table/table.h"

namespace deepseek::explain {

struct TableSchema {
  std::vector<FeatureText> features;
  std::string target;                ///< the column to foretell; "" where there is none
  std::vector<std::string> classes;  ///< of the target; empty: a number
};

/// Every column but `target` is a feature. Refuses a target that the table does not have ("" is none).
[[nodiscard]] base::Result<TableSchema> schema_of(const formats::Table& table, const std::string& target);

/// `{"features": [{"name": "age"}, {"name": "job", "categories": ["baker", "clerk"]}], "target": "income", "classes": ["<=50K", ">50K"]}`. `target` and `classes` may
/// be absent. Reading refuses names and categories that are no text, empty or there twice, and no features.
[[nodiscard]] nlohmann::ordered_json schema_json(const TableSchema& schema);
[[nodiscard]] base::Result<TableSchema> read_schema(const nlohmann::ordered_json& json);

struct FeatureRows {
  std::vector<double> rows;  ///< [rows of the table, features]; NaN is missing
  std::vector<std::string> notes;  ///< for the log: categories that the model does not know, columns of one value
};

/// The columns of a table as a model's features, found by name, in the model's codes; other columns are left out. A category that the model does not know is
/// missing. Numbers meet a model's categories by their value: 1 is the category "1" or "1.0".
/// Errors: no features, a column that is not there, text where the model wants a number.
[[nodiscard]] base::Result<FeatureRows> rows_of(const formats::Table& table, std::span<const FeatureText> features);

/// A value as people read it: the category, a number with six digits (whole ones with all of theirs), or "missing".
[[nodiscard]] std::string display(const FeatureText& feature, double value);

}  // namespace deepseek::explain
