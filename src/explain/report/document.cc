#include "explain/report/document.h"

#include <cmath>
#include <unordered_map>

#include "base/json.h"
#include "base/text.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using base::value_or;
using Json = nlohmann::ordered_json;

const Json& field(const Json& object, const char* name) {
  static const Json none;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}

std::string text(const Json& object, const char* name) { return object.is_object() ? base::to_valid_utf8(value_or<std::string>(object, name, "")) : ""; }

int64_t whole(const Json& object, const char* name, int64_t fallback) { return object.is_object() ? value_or<int64_t>(object, name, fallback) : fallback; }

Result<double> number(const Json& object, const std::string& where, const char* name) {
  const Json& found = field(object, name);
  if (!found.is_number() || !std::isfinite(found.get<double>())) return base::fail("the explanation's {}{} is no finite number", where, name);
  return found.get<double>();
}

// One finite number for each node.
Status read_column(const Json& object, const char* where, const char* name, size_t nodes, std::vector<double>& column) {
  const Json& found = field(object, name);
  if (!found.is_array() || found.size() != nodes) return base::fail("the explanation's {}.{} has not one number for each of the {} nodes of the tree", where, name, nodes);
  for (const Json& x : found) {
    if (!x.is_number() || !std::isfinite(x.get<double>())) return base::fail("the explanation's {}.{} has an entry that is no finite number", where, name);
    column.push_back(x.get<double>());
  }
  return {};
}

Status read_tree(const Json& tree, Document& document) {
  if (!tree.is_array() || tree.empty()) return base::fail("the explanation has no tree of features");
  std::vector<bool> taken(tree.size());
  for (size_t i = 0; i < tree.size(); ++i) {
    ShownNode node{text(tree[i], "name"), static_cast<int>(whole(tree[i], "parent", -1)), static_cast<int>(whole(tree[i], "feature", -1)), 0, {}};
    const bool placed = i == 0 ? node.parent == -1 : node.parent >= 0 && node.parent < static_cast<int>(i);
    if (!placed) return base::fail("node {} of the explanation's tree does not come after its parent", i);
    if (i > 0 && document.nodes[node.parent].feature >= 0) return base::fail("node {} of the explanation's tree hangs on a feature", i);
    if (node.feature >= static_cast<int>(tree.size()) || (node.feature >= 0 && taken[node.feature])) {
      return base::fail("node {} of the explanation's tree has no feature of its own", i);
    }
    if (node.feature >= 0) taken[node.feature] = true;
    if (i > 0) document.nodes[node.parent].children.push_back(static_cast<int>(i));
    node.leaves = node.feature >= 0;
    document.nodes.push_back(std::move(node));
  }
  for (size_t i = tree.size(); i-- > 1;) document.nodes[document.nodes[i].parent].leaves += document.nodes[i].leaves;
  return {};
}

Status read_interactions(const Json& list, const char* where, size_t nodes, std::vector<ShownInteraction>& interactions) {
  if (list.is_null()) return {};
  if (!list.is_array()) return base::fail("the explanation's {}.interactions is no list", where);
  for (const Json& entry : list) {
    auto value = number(entry, fmt::format("{}.interactions: ", where), "value");
    if (!value) return base::pass(value);
    ShownInteraction interaction{{}, *value, value_or<double>(entry, "half_width", 0)};
    for (const Json& node : field(entry, "nodes")) {
      if (!node.is_number_integer() || node.get<int64_t>() < 0 || node.get<int64_t>() >= static_cast<int64_t>(nodes)) {
        return base::fail("an interaction in the explanation's {} names a node that the tree does not have", where);
      }
      interaction.nodes.push_back(node.get<int>());
    }
    if (interaction.nodes.size() < 2) return base::fail("an interaction in the explanation's {} names fewer than two nodes", where);
    interactions.push_back(std::move(interaction));
  }
  return {};
}

Json clean_input(const Json& input) {
  if (input.is_string()) return base::to_valid_utf8(input.get<std::string>());
  if (input.is_boolean()) return input.get<bool>() ? "true" : "false";
  if (input.is_number() && std::isfinite(input.get<double>())) return input;
  return nullptr;
}

Result<ShownSample> read_sample(const Json& json, const Document& document) {
  ShownSample sample{.sample = whole(json, "sample", -1), .actual = text(json, "actual")};
  if (const Json& actual = field(json, "actual"); actual.is_number()) sample.actual = actual.dump();
  auto score = number(json, "local.", "score");
  if (!score) return base::pass(score);
  sample.score = *score;
  if (const Json& prediction = field(json, "prediction"); prediction.is_number() && std::isfinite(prediction.get<double>())) sample.prediction = prediction.get<double>();
  if (auto read = read_column(json, "local", "values", document.nodes.size(), sample.values); !read) return base::pass(read);
  if (auto read = read_column(json, "local", "half_widths", document.nodes.size(), sample.half_widths); !read) return base::pass(read);
  if (auto read = read_interactions(field(json, "interactions"), "local", document.nodes.size(), sample.interactions); !read) return base::pass(read);
  std::unordered_map<std::string, const Json*> inputs;
  if (const Json& given = field(json, "inputs"); given.is_object()) {
    for (const auto& [name, input] : given.items()) inputs.emplace(base::to_valid_utf8(name), &input);
  }
  for (const ShownNode& node : document.nodes) {
    const auto found = node.feature < 0 ? inputs.end() : inputs.find(node.name);
    sample.inputs.push_back(found == inputs.end() ? Json() : clean_input(*found->second));
    sample.missing.push_back(found != inputs.end() && sample.inputs.back().is_null());
  }
  return sample;
}

Result<ShownPoint> read_point(const Json& json, const Document& document) {
  ShownPoint point{whole(json, "sample", -1), {}, {}};
  if (auto read = read_column(json, "global.points", "values", document.nodes.size(), point.values); !read) return base::pass(read);
  const Json& inputs = field(json, "inputs");
  for (const ShownNode& node : document.nodes) {
    const bool given = node.feature >= 0 && inputs.is_array() && node.feature < static_cast<int>(inputs.size());
    point.inputs.push_back(given ? clean_input(inputs[node.feature]) : Json());
  }
  return point;
}

Result<ShownRows> read_rows(const Json& json, const Document& document) {
  ShownRows rows{.rows = whole(json, "rows", 0)};
  const size_t nodes = document.nodes.size();
  if (auto read = read_column(json, "global", "importance", nodes, rows.importance); !read) return base::pass(read);
  if (auto read = read_column(json, "global", "half_widths", nodes, rows.half_widths); !read) return base::pass(read);
  if (auto read = read_column(json, "global", "mean", nodes, rows.mean); !read) return base::pass(read);
  if (auto read = read_interactions(field(json, "interactions"), "global", nodes, rows.interactions); !read) return base::pass(read);
  for (const Json& point : field(json, "points")) {
    auto read = read_point(point, document);
    if (!read) return base::pass(read);
    rows.points.push_back(std::move(*read));
  }
  return rows;
}

void read_origin(const Json& explanation, Document& document) {
  const Json &model = field(explanation, "model"), &data = field(explanation, "data"), &method = field(explanation, "method");
  document.model = text(model, "path");
  document.kind = text(model, "kind");
  document.output = text(model, "output");
  document.outputs = whole(model, "outputs", 1);
  if (const std::string units = text(model, "units"); !units.empty()) document.units = units;
  document.data = text(data, "path");
  document.target = text(data, "target");
  document.data_rows = whole(data, "rows", -1);
  document.background_rows = whole(data, "background_rows", -1);
  document.engine = text(method, "engine");
  document.worth = text(method, "worth");
  document.values = text(method, "values");
  document.interactions = text(method, "interactions");
  document.exact = method.is_object() && value_or<bool>(method, "exact", false);
  document.confidence = method.is_object() ? value_or<double>(method, "confidence", 0.95) : 0.95;
  document.coalitions = whole(method, "coalitions", -1);
  document.seed = whole(method, "seed", -1);
  for (const Json& note : field(method, "notes")) {
    if (note.is_string()) document.notes.push_back(base::to_valid_utf8(note.get<std::string>()));
  }
}

}  // namespace

Result<Document> read_document(const Json& explanation) {
  if (!explanation.is_object()) return base::fail("the explanation is no JSON object");
  Document document;
  read_origin(explanation, document);
  if (auto read = read_tree(field(explanation, "tree"), document); !read) return base::pass(read);
  auto base_value = number(explanation, "", "base");
  if (!base_value) return base::pass(base_value);
  document.base = *base_value;
  if (const Json& local = field(explanation, "local"); !local.is_null()) {
    auto sample = read_sample(local, document);
    if (!sample) return base::pass(sample);
    document.local = std::move(*sample);
  }
  if (const Json& global = field(explanation, "global"); !global.is_null()) {
    auto rows = read_rows(global, document);
    if (!rows) return base::pass(rows);
    document.global = std::move(*rows);
  }
  if (!document.local && !document.global) return base::fail("the explanation has neither a sample ('local') nor all rows ('global')");
  return document;
}

}  // namespace deepseek::explain
