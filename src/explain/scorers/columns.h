// Which columns a model reads, and what its numbers for texts mean.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "explain/scorers/open_model.h"
#include "explain/table_schema.h"

namespace deepseek::explain {

/// What is known of the columns before a model is asked: the schema file's features, else the data's.
struct KnownColumns {
  TableSchema schema;
  bool from_file = false;  ///< its categories stand in the order of the model's codes; those of the data stand in the order of the alphabet
};

[[nodiscard]] base::Result<KnownColumns> known_columns(const ScorerOptions& options);

/// What a file says of the columns that it reads.
struct ModelColumns {
  std::vector<std::string> names;                    ///< empty: none
  std::vector<std::vector<std::string>> categories;  ///< of each column: code -> text, empty: not known; may be shorter than the columns
  std::vector<uint8_t> unread;                       ///< columns that do not touch the scores; may be shorter
  bool generic = false;                              ///< the names only count the columns: those of the data or schema stand for them in order
  size_t count = 0;                                  ///< of columns; 0: not known
};

/// The features of a model that reads numbers. Texts get codes from the file itself or from a schema file, never from the data: another table, or another order at
/// training, would silently swap its categories. So a text column of the data whose codes nobody states is refused.
[[nodiscard]] base::Result<std::vector<FeatureText>> coded_features(const KnownColumns& known, const ModelColumns& model);

/// Names of `count` outputs: the classes (of two, one output is the second), the target's name, or "score", "output 0", "output 1".
[[nodiscard]] std::vector<std::string> output_names(const TableSchema& schema, size_t count);

/// The row that a model is tried with, in the codes of `features`: options.probe by name and text, else zeros and first categories.
[[nodiscard]] std::vector<double> probe_row(const ScorerOptions& options, std::span<const FeatureText> features);

}  // namespace deepseek::explain
