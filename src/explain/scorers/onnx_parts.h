// The parts of an ONNX file: fields, tensors and operators, read and checked.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "explain/scorers/protobuf.h"

namespace deepseek::explain::onnx {

/// All fields of a message; `what` is its name in the error.
[[nodiscard]] base::Result<std::vector<protobuf::Field>> fields_of(std::string_view text, const char* what);

/// Fails where a tensor does not hold as many numbers as its shape says, is of a type that nets of tables do not have, or lies in another file.
[[nodiscard]] base::Status check_tensor(std::string_view bytes);

struct Node {
  std::string_view op, domain;
  std::vector<std::string_view> inputs, outputs;
  std::vector<protobuf::Field> fields;
};
[[nodiscard]] base::Result<Node> read_node(std::string_view bytes);

/// Fails where an operator is not one of those that nets of tables are made of, or lacks inputs, and where one of its attributes would break its reader.
[[nodiscard]] base::Status check_node(const Node& node);

}  // namespace deepseek::explain::onnx
