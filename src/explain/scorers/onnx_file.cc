#include "explain/scorers/onnx_file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/text.h"
#include "explain/scorers/protobuf.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using protobuf::Field;
using protobuf::kBytes;
using protobuf::kFixed32;
using protobuf::kFixed64;
using protobuf::kVarint;
using protobuf::put_bytes;
using protobuf::put_number;
using protobuf::take_varint;

constexpr int64_t kMostNumbers = int64_t{1} << 28;  // in a tensor
constexpr size_t kMostNodes = 100'000;
constexpr int64_t kMostFeatures = 1'000'000;

Result<std::vector<Field>> fields_of(std::string_view text, const char* what) {
  auto fields = protobuf::fields_of(text);
  if (!fields) return base::fail("this is no ONNX file, or it was cut off: {} breaks", what);
  return std::move(*fields);
}

// ---- Tensors ----

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
    case 2: return f.wire == kVarint;
    case 4: return f.wire == kBytes || f.wire == kFixed32;
    case 1:
    case 5:
    case 7: return f.wire == kBytes || f.wire == kVarint;
    case 10: return f.wire == kBytes || f.wire == kFixed64;
    case 8:
    case 9: return f.wire == kBytes;
    default: return true;
  }
}

Result<Tensor> read_tensor(std::string_view bytes) {
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
  const bool whole = raw ? *raw == numbers * type->second.bytes && counts.empty() : counts.size() == 1 && counts.begin()->first == type->second.field && counts.begin()->second == numbers;
  if (!whole) return base::fail("the tensor '{}' does not hold the {} numbers that its shape says", name, count);
  return tensor;
}

// ---- Nodes ----

struct Node {
  std::string_view op, domain;
  std::vector<std::string_view> inputs, outputs;
  std::vector<Field> fields;
};

struct Inputs {
  size_t least, most;
};
// What nets of tables are made of, and how many inputs it takes.
const std::map<std::string_view, Inputs> kOperators{
    {"Abs", {1, 1}},      {"Add", {2, 2}},      {"BatchNormalization", {5, 5}}, {"Cast", {1, 1}},       {"Clip", {1, 3}},     {"Concat", {1, 1024}}, {"Constant", {0, 0}},   {"Div", {2, 2}},
    {"Dropout", {1, 3}},  {"Elu", {1, 1}},      {"Erf", {1, 1}},                {"Exp", {1, 1}},        {"Flatten", {1, 1}},  {"Gemm", {2, 3}},      {"HardSigmoid", {1, 1}}, {"HardSwish", {1, 1}},
    {"Identity", {1, 1}}, {"LeakyRelu", {1, 1}}, {"Log", {1, 1}},               {"LogSoftmax", {1, 1}}, {"MatMul", {2, 2}},   {"Mish", {1, 1}},      {"Mul", {2, 2}},        {"Neg", {1, 1}},
    {"Pow", {2, 2}},      {"PRelu", {2, 2}},    {"ReduceMean", {1, 2}},         {"ReduceSum", {1, 2}},  {"Relu", {1, 1}},     {"Reshape", {2, 2}},   {"Selu", {1, 1}},       {"Sigmoid", {1, 1}},
    {"Softmax", {1, 1}},  {"Softplus", {1, 1}}, {"Sqrt", {1, 1}},               {"Squeeze", {1, 2}},    {"Sub", {2, 2}},      {"Tanh", {1, 1}},      {"Transpose", {1, 1}},  {"Unsqueeze", {1, 2}}};

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

Status check_attribute(std::string_view bytes) {
  auto fields = fields_of(bytes, "an attribute");
  if (!fields) return base::pass(fields);
  bool has_tensor = false;
  for (const Field& f : *fields) {
    const bool plain = f.number <= 5 || (f.number >= 7 && f.number <= 9) || f.number == 13 || f.number == 20 || f.number == 21;
    if (!plain) return base::refuse("it has operators with graphs or lists of tensors inside");
    if (f.number != 5) continue;
    if (std::exchange(has_tensor, true)) return base::fail("an attribute has two tensors");  // protobuf would make one of both
    if (auto tensor = read_tensor(f.bytes); !tensor) return base::pass(tensor);
  }
  return {};
}

Status check_node(const Node& node) {
  const std::string op = base::to_valid_utf8(node.op.substr(0, 80));
  if (!node.domain.empty() && node.domain != "ai.onnx") {
    return base::refuse("it has the operator {} of {}; trees, encoders and other operators beside plain ONNX are not read: give trees as XGBoost's or LightGBM's own file, other models as a program", op,
                        base::to_valid_utf8(node.domain.substr(0, 80)));
  }
  const auto known = kOperators.find(node.op);
  if (known == kOperators.end()) return base::refuse("it has the operator {}, which is not one of those that nets of tables are made of", op);
  const bool gaps = std::any_of(node.inputs.begin(), node.inputs.begin() + static_cast<int64_t>(std::min(node.inputs.size(), known->second.least)), [](auto name) { return name.empty(); });
  if (node.inputs.size() < known->second.least || node.inputs.size() > known->second.most || gaps) return base::fail("an operator {} has {} inputs", op, node.inputs.size());
  if (node.outputs.empty() || node.outputs[0].empty()) return base::fail("an operator {} has no output", op);
  for (const Field& f : node.fields) {
    if (f.number != 5) continue;
    if (Status ok = check_attribute(f.bytes); !ok) return ok;
  }
  return {};
}

// ---- The graph ----

struct ValueInfo {
  std::string_view name, whole;
  bool is_floats = false;
  std::vector<int64_t> dims;  // 0: open
};

std::optional<std::string_view> inside(const std::vector<Field>& fields, uint32_t number) {
  for (const Field& f : fields) {
    if (f.number == number && f.wire == kBytes) return f.bytes;
  }
  return std::nullopt;
}

Result<ValueInfo> read_value(const Field& field) {
  auto fields = fields_of(field.bytes, "an input or output");
  if (!fields) return base::pass(fields);
  ValueInfo value{.name = inside(*fields, 1).value_or(""), .whole = field.bytes, .is_floats = false, .dims = {}};
  auto type = fields_of(inside(*fields, 2).value_or(""), "a type");
  if (!type) return base::pass(type);
  auto tensor = fields_of(inside(*type, 1).value_or(""), "a type");
  if (!tensor) return base::pass(tensor);
  for (const Field& f : *tensor) {
    if (f.number == 1) value.is_floats = f.value == 1;
  }
  auto shape = fields_of(inside(*tensor, 2).value_or(""), "a shape");
  if (!shape) return base::pass(shape);
  for (const Field& f : *shape) {
    if (f.number != 1) continue;
    auto dim = fields_of(f.bytes, "a shape");
    if (!dim) return base::pass(dim);
    int64_t size = 0;
    for (const Field& d : *dim) {
      if (d.number == 1 && d.wire == kVarint) size = static_cast<int64_t>(d.value);
    }
    value.dims.push_back(std::max<int64_t>(size, 0));  // -1 is how some write an open one
  }
  return value;
}

struct Graph {
  std::vector<Node> nodes;
  std::map<std::string_view, std::string_view> constants;  // name -> bytes of the tensor
  std::vector<ValueInfo> inputs, outputs;
};

Result<Graph> read_graph(std::string_view bytes) {
  auto fields = fields_of(bytes, "the graph");
  if (!fields) return base::pass(fields);
  Graph graph;
  for (const Field& f : *fields) {
    if (f.number == 1) {
      auto node = read_node(f.bytes);
      if (!node) return base::pass(node);
      graph.nodes.push_back(std::move(*node));
      if (graph.nodes.size() > kMostNodes) return base::fail("it has more than {} operators", kMostNodes);
    } else if (f.number == 5) {
      auto tensor = fields_of(f.bytes, "a tensor");
      if (!tensor) return base::pass(tensor);
      graph.constants[inside(*tensor, 8).value_or("")] = f.bytes;
    } else if (f.number == 11 || f.number == 12) {
      auto value = read_value(f);
      if (!value) return base::pass(value);
      (f.number == 11 ? graph.inputs : graph.outputs).push_back(std::move(*value));
    }
  }
  std::erase_if(graph.inputs, [&](const ValueInfo& input) { return graph.constants.contains(input.name); });  // defaults of old files
  return graph;
}

// The name of the tensor to take.
Result<std::string_view> chosen_output(const Graph& graph) {
  std::map<std::string_view, std::string_view> zipped;  // what ZipMap made -> what of
  for (const Node& node : graph.nodes) {
    if (node.op == "ZipMap" && node.inputs.size() == 1 && node.outputs.size() == 1) zipped[node.outputs[0]] = node.inputs[0];
  }
  const ValueInfo* chosen = nullptr;
  for (const ValueInfo& output : graph.outputs) {
    if (!output.is_floats && !zipped.contains(output.name)) continue;
    if (chosen == nullptr || (chosen->name != "probabilities" && chosen->name != "scores")) chosen = &output;
  }
  if (chosen == nullptr) return base::fail("it has no output of floats");
  const auto found = zipped.find(chosen->name);
  return found == zipped.end() ? chosen->name : found->second;
}

// Nodes that lead to an output, in their order, with copies of constants replaced by what they copy.
Result<std::vector<Node>> needed(const Graph& graph, std::string_view output, std::set<std::string_view>& names) {
  std::map<std::string_view, std::string_view> copies;
  std::set<std::string_view> made;
  std::vector<Node> nodes;
  for (const Node& node : graph.nodes) {
    if (node.op == "Identity" && node.domain.empty() && node.inputs.size() == 1 && node.outputs.size() == 1 && node.outputs[0] != output) {
      const auto before = copies.find(node.inputs[0]);
      const std::string_view from = before == copies.end() ? node.inputs[0] : before->second;
      if (graph.constants.contains(from)) {
        copies[node.outputs[0]] = from;
        continue;
      }
    }
    nodes.push_back(node);
    for (std::string_view& input : nodes.back().inputs) {
      if (const auto copy = copies.find(input); copy != copies.end()) input = copy->second;
    }
    for (const std::string_view name : node.outputs) {
      if (!name.empty() && (!made.insert(name).second || graph.constants.contains(name))) return base::fail("two operators make '{}'", base::to_valid_utf8(name.substr(0, 80)));
    }
  }
  names.insert(output);
  std::vector<Node> kept;
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    if (std::none_of(node->outputs.begin(), node->outputs.end(), [&](auto name) { return !name.empty() && names.contains(name); })) continue;
    if (Status ok = check_node(*node); !ok) return base::pass(ok);
    for (const std::string_view name : node->outputs) names.erase(name);
    for (const std::string_view name : node->inputs) {
      if (!name.empty()) names.insert(name);
    }
    kept.push_back(*node);
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

void put_node(std::string& graph, const Node& node) {
  std::string bytes;
  for (const std::string_view input : node.inputs) put_bytes(bytes, 1, input);
  for (const Field& f : node.fields) {
    if (f.number != 1) bytes += f.whole;
  }
  put_bytes(graph, 1, bytes);
}

void put_value(std::string& graph, uint32_t field, std::string_view name, std::span<const int64_t> dims) {
  std::string shape, tensor, type, value;
  for (const int64_t dim : dims) {
    std::string size;
    put_number(size, 1, static_cast<uint64_t>(dim));
    put_bytes(shape, 1, size);
  }
  put_number(tensor, 1, 1);
  if (!dims.empty()) put_bytes(tensor, 2, shape);
  put_bytes(type, 1, tensor);
  put_bytes(value, 1, name);
  put_bytes(value, 2, type);
  put_bytes(graph, field, value);
}

Result<std::string> graph_bytes(const Graph& graph, const std::vector<Node>& nodes, const std::set<std::string_view>& names, const OnnxNet& net) {
  std::string bytes;
  for (const Node& node : nodes) put_node(bytes, node);
  put_bytes(bytes, 2, "net");
  for (const auto& [name, tensor] : graph.constants) {
    if (!names.contains(name)) continue;
    if (auto read = read_tensor(tensor); !read) return base::pass(read);
    put_bytes(bytes, 5, tensor);
  }
  const int64_t shape[] = {net.rows, net.features};
  put_value(bytes, 11, net.input, shape);
  put_value(bytes, 12, net.output, {});
  return bytes;
}

Status read_input(const Graph& graph, const std::set<std::string_view>& names, OnnxNet& net) {
  std::vector<const ValueInfo*> used;
  for (const ValueInfo& input : graph.inputs) {
    if (names.contains(input.name)) used.push_back(&input);
  }
  for (const std::string_view name : names) {
    const bool given = graph.constants.contains(name) || std::any_of(used.begin(), used.end(), [&](const ValueInfo* v) { return v->name == name; });
    if (!given) return base::fail("nothing makes '{}', which an operator reads", base::to_valid_utf8(name.substr(0, 80)));
  }
  if (used.size() != 1) return base::refuse("it has {} inputs; one of [rows, features] is read", used.size());
  const ValueInfo& input = *used[0];
  if (!input.is_floats || input.dims.size() != 2) return base::refuse("its input '{}' is no [rows, features] of f32", base::to_valid_utf8(input.name.substr(0, 80)));
  if (input.dims[0] > 65536 || input.dims[1] > kMostFeatures) return base::fail("its input is of {} rows and {} features", input.dims[0], input.dims[1]);
  net.input = input.name;
  net.rows = std::max<int64_t>(input.dims[0], 1);
  net.features = input.dims[1];
  return {};
}

}  // namespace

Result<OnnxNet> read_onnx(std::string_view file, int64_t features) {
  auto fields = fields_of(file, "the file");
  if (!fields) return base::pass(fields);
  std::string bytes;
  std::string_view graph_text;
  for (const Field& f : *fields) {
    if (f.number == 7 && f.wire == kBytes) graph_text = f.bytes;
    else if (f.number == 1 || f.number == 8) bytes += f.whole;  // ir_version, opset_import
    if (f.number != 8) continue;
    if (auto opset = fields_of(f.bytes, "opset_import"); !opset) return base::pass(opset);
  }
  if (graph_text.empty()) return base::fail("this is no ONNX file: it has no graph");
  auto graph = read_graph(graph_text);
  if (!graph) return base::pass(graph);
  auto output = chosen_output(*graph);
  if (!output) return base::pass(output);
  std::set<std::string_view> names;
  auto nodes = needed(*graph, *output, names);
  if (!nodes) return base::pass(nodes);
  if (nodes->empty()) return base::fail("nothing makes its output");
  OnnxNet net{.bytes = {}, .input = {}, .output = std::string(*output)};
  if (Status ok = read_input(*graph, names, net); !ok) return base::pass(ok);
  if (net.features > 0 && features > 0 && net.features != features) return base::refuse("it reads {} features; {} are given", net.features, features);
  if (net.features == 0) net.features = features;
  auto rebuilt = graph_bytes(*graph, *nodes, names, net);
  if (!rebuilt) return base::pass(rebuilt);
  put_bytes(bytes, 7, *rebuilt);
  net.bytes = std::move(bytes);
  return net;
}

}  // namespace deepseek::explain
