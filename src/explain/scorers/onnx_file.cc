#include "explain/scorers/onnx_file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/text.h"
#include "explain/scorers/onnx_parts.h"
#include "explain/scorers/protobuf.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using onnx::check_node;
using onnx::fields_of;
using onnx::Node;
using onnx::read_node;
using protobuf::Field;
using protobuf::kBytes;
using protobuf::kVarint;
using protobuf::put_bytes;
using protobuf::put_number;

constexpr size_t kMostNodes = 100'000;
constexpr int64_t kMostFeatures = 1'000'000;

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
      if (!name.empty() && (!made.insert(name).second || graph.constants.contains(name))) {
        return base::fail("two operators make '{}'", base::to_valid_utf8(name.substr(0, 80)));
      }
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
  put_bytes(tensor, 2, shape);
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
    if (Status ok = onnx::check_tensor(tensor); !ok) return base::pass(ok);
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
  if (!input.is_floats || input.dims.size() != 2) {
    return base::refuse("its input '{}' is no [rows, features] of f32", base::to_valid_utf8(input.name.substr(0, 80)));
  }
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
