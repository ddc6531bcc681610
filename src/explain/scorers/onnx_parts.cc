#include "explain/scorers/onnx_parts.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "base/text.h"

namespace deepseek::explain::onnx {
namespace {

using base::Result;
using base::Status;
using protobuf::Field;
using protobuf::kBytes;
using protobuf::kFixed32;
using protobuf::kFixed64;
using protobuf::kVarint;
using protobuf::take_varint;

constexpr int64_t kMostNumbers = int64_t{1} << 28;  // in a tensor

struct Tensor {
  std::string_view name;
  std::vector<int64_t> dims;
  uint64_t type = 0;
};

// Numbers in a repeated field, packed or one by one.
std::optional<size_t> count_of(const Field& field, size_t width) {
  if (field.wire != kBytes) return 1;
  if (width > 0) return field.bytes.size() % width == 0 ? std::optional(field.bytes.size() / width) : std::nullopt;
  size_t count = 0;
  for (std::string_view text = field.bytes; !text.empty(); ++count) {
    if (!take_varint(text)) return std::nullopt;
  }
  return count;
}

Status add_dims(const Field& field, std::vector<int64_t>& dims) {
  std::string_view text = field.bytes;
  if (field.wire == kVarint) dims.push_back(static_cast<int64_t>(field.value));
  while (!text.empty()) {
    const auto value = take_varint(text);
    if (!value) return base::fail("the shape of a tensor breaks");
    dims.push_back(static_cast<int64_t>(*value));
  }
  if (dims.size() > 8) return base::fail("a tensor has more than 8 dimensions");
  return {};
}

// Bytes of a number and the field that holds it where raw_data does not: f32, i32, i64, bool, f64 are what nets of tables use.
struct TypeOf {
  size_t bytes, width;
  uint32_t field;
};
const std::map<uint64_t, TypeOf> kTypes{{1, {4, 4, 4}}, {6, {4, 0, 5}}, {7, {8, 0, 7}}, {9, {1, 0, 5}}, {11, {8, 8, 10}}};

// A field of another kind is one that protobuf skips, here it would be counted.
bool fits(const Field& f) {
  switch (f.number) {
    case 2:
      return f.wire == kVarint;
    case 4:
      return f.wire == kBytes || f.wire == kFixed32;
    case 1:
    case 5:
    case 7:
      return f.wire == kBytes || f.wire == kVarint;
    case 10:
      return f.wire == kBytes || f.wire == kFixed64;
    case 8:
    case 9:
      return f.wire == kBytes;
    default:
      return true;
  }
}

struct Inputs {
  size_t least, most;
};
// What nets of tables are made of, and how many inputs it takes.
const std::map<std::string_view, Inputs> kOperators{{"Abs", {1, 1}},       {"Add", {2, 2}},        {"BatchNormalization", {5, 5}},
                                                    {"Cast", {1, 1}},      {"Clip", {1, 3}},       {"Concat", {1, 1024}},
                                                    {"Constant", {0, 0}},  {"Div", {2, 2}},        {"Dropout", {1, 3}},
                                                    {"Elu", {1, 1}},       {"Erf", {1, 1}},        {"Exp", {1, 1}},
                                                    {"Flatten", {1, 1}},   {"Gemm", {2, 3}},       {"HardSigmoid", {1, 1}},
                                                    {"HardSwish", {1, 1}}, {"Identity", {1, 1}},   {"LeakyRelu", {1, 1}},
                                                    {"Log", {1, 1}},       {"LogSoftmax", {1, 1}}, {"MatMul", {2, 2}},
                                                    {"Mish", {1, 1}},      {"Mul", {2, 2}},        {"Neg", {1, 1}},
                                                    {"Pow", {2, 2}},       {"PRelu", {2, 2}},      {"ReduceMean", {1, 2}},
                                                    {"ReduceSum", {1, 2}}, {"Relu", {1, 1}},       {"Reshape", {2, 2}},
                                                    {"Selu", {1, 1}},      {"Sigmoid", {1, 1}},    {"Softmax", {1, 1}},
                                                    {"Softplus", {1, 1}},  {"Sqrt", {1, 1}},       {"Squeeze", {1, 2}},
                                                    {"Sub", {2, 2}},       {"Tanh", {1, 1}},       {"Transpose", {1, 1}},
                                                    {"Unsqueeze", {1, 2}}};

Status check_attribute(std::string_view bytes) {
  auto fields = fields_of(bytes, "an attribute");
  if (!fields) return base::pass(fields);
  bool has_tensor = false;
  for (const Field& f : *fields) {
    const bool plain = f.number <= 5 || (f.number >= 7 && f.number <= 9) || f.number == 13 || f.number == 20 || f.number == 21;
    if (!plain) return base::refuse("it has operators with graphs or lists of tensors inside");
    if (f.number != 5) continue;
    if (std::exchange(has_tensor, true)) return base::fail("an attribute has two tensors");  // protobuf would make one of both
    if (Status ok = check_tensor(f.bytes); !ok) return ok;
  }
  return {};
}

}  // namespace

Result<std::vector<Field>> fields_of(std::string_view text, const char* what) {
  auto fields = protobuf::fields_of(text);
  if (!fields) return base::fail("this is no ONNX file, or it was cut off: {} breaks", what);
  return std::move(*fields);
}

Status check_tensor(std::string_view bytes) {
  auto fields = fields_of(bytes, "a tensor");
  if (!fields) return base::pass(fields);
  Tensor tensor;
  std::map<uint32_t, size_t> counts;
  std::optional<size_t> raw;
  for (const Field& f : *fields) {
    if (!fits(f)) return base::fail("a tensor has a field {} of the wrong kind", f.number);
    if (f.number == 1) {
      if (Status ok = add_dims(f, tensor.dims); !ok) return base::pass(ok);
    } else if (f.number == 2) {
      tensor.type = f.value;
    } else if (f.number == 8) {
      tensor.name = f.bytes;
    } else if (f.number == 9) {
      raw = f.bytes.size();
    } else if (f.number == 13 || (f.number == 14 && f.value != 0)) {
      return base::refuse("its weights lie in another file; save them in the model (torch.onnx.export: external_data=False)");
    } else if (f.number == 4 || f.number == 5 || f.number == 7 || f.number == 10) {
      const auto count = count_of(f, f.number == 4 ? 4 : f.number == 10 ? 8 : 0);
      if (!count) return base::fail("the numbers of a tensor break");
      counts[f.number] += *count;
    } else if (f.number == 3 || f.number == 6 || f.number == 11) {
      return base::refuse("it has a tensor of a kind that is not read");
    }
  }
  const std::string name = base::to_valid_utf8(tensor.name.substr(0, 80));
  const auto type = kTypes.find(tensor.type);
  if (type == kTypes.end()) return base::refuse("the tensor '{}' is of the type {}; f32, f64, i32, i64 and bool are read", name, tensor.type);
  int64_t count = 1;
  for (const int64_t dim : tensor.dims) {
    if (dim < 1 || dim > kMostNumbers || (count *= dim) > kMostNumbers) return base::fail("the tensor '{}' has a dimension of {}", name, dim);
  }
  const auto numbers = static_cast<size_t>(count);
  const bool whole = raw ? *raw == numbers * type->second.bytes && counts.empty()
                         : counts.size() == 1 && counts.begin()->first == type->second.field && counts.begin()->second == numbers;
  if (!whole) return base::fail("the tensor '{}' does not hold the {} numbers that its shape says", name, count);
  return {};
}

Result<Node> read_node(std::string_view bytes) {
  auto fields = fields_of(bytes, "a node");
  if (!fields) return base::pass(fields);
  Node node;
  for (const Field& f : *fields) {
    if (f.number == 1) node.inputs.push_back(f.bytes);
    if (f.number == 2) node.outputs.push_back(f.bytes);
    if (f.number == 4) node.op = f.bytes;
    if (f.number == 7) node.domain = f.bytes;
  }
  node.fields = std::move(*fields);
  return node;
}

Status check_node(const Node& node) {
  const std::string op = base::to_valid_utf8(node.op.substr(0, 80));
  if (!node.domain.empty() && node.domain != "ai.onnx") {
    return base::refuse(
        "it has the operator {} of {}; trees, encoders and other operators beside plain ONNX are not read: give trees as XGBoost's or LightGBM's own file, "
        "other models as a program",
        op, base::to_valid_utf8(node.domain.substr(0, 80)));
  }
  const auto known = kOperators.find(node.op);
  if (known == kOperators.end()) return base::refuse("it has the operator {}, which is not one of those that nets of tables are made of", op);
  const bool gaps = std::any_of(node.inputs.begin(), node.inputs.begin() + static_cast<int64_t>(std::min(node.inputs.size(), known->second.least)),
                                [](auto name) { return name.empty(); });
  if (node.inputs.size() < known->second.least || node.inputs.size() > known->second.most || gaps) {
    return base::fail("an operator {} has {} inputs", op, node.inputs.size());
  }
  if (node.outputs.empty() || node.outputs[0].empty()) return base::fail("an operator {} has no output", op);
  for (const Field& f : node.fields) {
    if (f.number != 5) continue;
    if (Status ok = check_attribute(f.bytes); !ok) return ok;
  }
  return {};
}

}  // namespace deepseek::explain::onnx
