// One record of a dataset: which shape it has, and its messages.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "formats/dataset/dataset.h"

namespace deepseek::formats {

using Json = nlohmann::json;  // not the ordered one, which is quadratic in the number of fields

struct Shape {
  DatasetFormat format = DatasetFormat::kText;
  std::string fields;              ///< for the log: "question, answer"
  std::string question, answer;    ///< names of the fields, where the format has such
};

/// The shape of a record by its fields; nothing where none fits.
[[nodiscard]] std::optional<Shape> recognise(const Json& record);
/// The record read as `format`; nothing where it lacks the fields.
[[nodiscard]] std::optional<Shape> shape_for(const Json& record, DatasetFormat format);
/// Why no shape fits, with what the record has.
[[nodiscard]] std::string unrecognised(const Json& record);
/// Messages or text of a record. Errors: a row without an answer, a role that is not known, content that is no text.
[[nodiscard]] base::Status fill(const Json& record, const Shape& shape, Example& example);

}  // namespace deepseek::formats
