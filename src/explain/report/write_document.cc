#include "explain/report/write_document.h"

#include <algorithm>

#include "base/text.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostPoints = 1000;  // of a chart of all rows: more of them hide each other

// The nodes that have values of their own.
struct Shown {
  std::vector<int32_t> place;     // [nodes of the tree]: in the document; -1: not there
  std::vector<int32_t> nodes;     // [nodes of the document]: in the tree
  std::vector<int32_t> features;  // [features of the document]: in the tree; -1: a closed group
  Json tree = Json::array();

  Shown(const FeatureTree& all, const std::vector<uint8_t>& open) : place(all.nodes.size(), -1) {
    const auto below = all.features_below();
    for (size_t n = 0; n < all.nodes.size(); ++n) {
      const FeatureNode& node = all.nodes[n];
      const auto parent = static_cast<size_t>(std::max(node.parent, 0));
      if (n > 0 && (place[parent] < 0 || !open[parent])) continue;
      place[n] = static_cast<int32_t>(nodes.size());
      nodes.push_back(static_cast<int32_t>(n));
      const bool closed = node.feature < 0 && !open[n];
      Json entry{{"name", base::to_valid_utf8(node.name) + (closed ? fmt::format(" [{}]", below[n].size()) : "")}, {"parent", n == 0 ? -1 : place[parent]}};
      if (node.feature >= 0 || closed) {
        entry["feature"] = features.size();
        features.push_back(node.feature);
      }
      tree.push_back(std::move(entry));
    }
  }

  [[nodiscard]] bool has_closed() const { return std::find(features.begin(), features.end(), -1) != features.end(); }
  [[nodiscard]] Json column(const std::vector<double>& of_nodes) const {
    Json result = Json::array();
    for (const int32_t node : nodes) result.push_back(of_nodes[static_cast<size_t>(node)]);
    return result;
  }
  [[nodiscard]] Json pairs(const std::vector<PairEstimate>& list) const {
    Json result = Json::array();
    for (const PairEstimate& pair : list) {
      const int32_t first = place[static_cast<size_t>(pair.first)], second = place[static_cast<size_t>(pair.second)];
      if (first >= 0 && second >= 0) result.push_back({{"nodes", {first, second}}, {"value", pair.value}, {"half_width", pair.half_width}});
    }
    return result;
  }
};

Json facts(const Origin& origin, const Shown& shown, bool exact, int64_t coalitions) {
  const auto put = [](Json& object, const char* key, const auto& value, bool there) {
    if (there) object[key] = value;
  };
  Json model{{"path", base::to_valid_utf8(origin.model)}, {"kind", origin.kind}}, data = Json::object(), method = Json::object();
  put(model, "output", origin.output, !origin.output.empty());
  model["outputs"] = origin.outputs;
  model["units"] = origin.units;
  put(data, "path", base::to_valid_utf8(origin.data), !origin.data.empty());
  put(data, "rows", origin.data_rows, origin.data_rows >= 0);
  put(data, "background_rows", origin.background_rows, origin.background_rows >= 0);
  put(data, "target", origin.target, !origin.target.empty());
  put(method, "engine", origin.engine, !origin.engine.empty());
  put(method, "worth", origin.worth, !origin.worth.empty());
  method["values"] = origin.values;
  put(method, "interactions", origin.interactions, !origin.interactions.empty());
  method["exact"] = exact;
  method["confidence"] = origin.confidence;
  put(method, "coalitions", coalitions, coalitions > 0);
  method["seed"] = origin.seed;
  Json notes = origin.notes;
  if (shown.has_closed()) notes.push_back("a group with a number behind it stands for that many features, which together matter too little to be told apart");
  put(method, "notes", notes, !notes.empty());
  return {{"model", model}, {"data", data}, {"method", method}, {"tree", shown.tree}};
}

// [features of the document].
Json inputs_of(const Shown& shown, const SampleText& sample) {
  Json inputs = Json::array();
  for (const int32_t feature : shown.features) inputs.push_back(feature < 0 || sample.inputs.empty() ? Json() : sample.inputs[static_cast<size_t>(feature)]);
  return inputs;
}

}  // namespace

void describe_estimate(Origin& origin, const Estimate& estimate, double precision) {
  origin.engine = estimate.exact ? "enumeration of all coalitions" : "estimate from sampled coalitions";
  origin.interactions = estimate.pairs.empty() ? "" : "SII";
  if (!estimate.precise) origin.notes.push_back(fmt::format("some intervals are wider than the {} that were asked for; a larger budget narrows them", precision));
}

Json document_of(const Origin& origin, const FeatureTree& tree, const LocalExplanation& local, const SampleText& sample) {
  const Shown shown(tree, local.open);
  Json document = facts(origin, shown, local.exact, local.asked);
  document["base"] = local.base;
  Json part = Json::object();
  if (sample.sample >= 0) part["sample"] = sample.sample;
  part["score"] = local.score;
  if (sample.prediction) part["prediction"] = *sample.prediction;
  if (!sample.inputs.empty()) {
    const Json inputs = inputs_of(shown, sample);
    part["inputs"] = Json::object();
    for (const Json& node : shown.tree) {
      if (!node.contains("feature")) continue;
      const auto feature = node["feature"].get<size_t>();
      if (shown.features[feature] >= 0) part["inputs"][node["name"].get<std::string>()] = inputs[feature];  // null: the data has no value there
    }
  }
  if (!sample.actual.empty()) part["actual"] = sample.actual;
  part["values"] = shown.column(local.values);
  part["half_widths"] = shown.column(local.half_width);
  part["interactions"] = shown.pairs(local.pairs);
  document["local"] = std::move(part);
  return document;
}

Json document_of(const Origin& origin, const FeatureTree& tree, const GlobalExplanation& global, const std::vector<SampleText>& samples) {
  std::vector<uint8_t> open(tree.nodes.size());
  bool exact = true;
  int64_t asked = 0;
  for (const LocalExplanation& row : global.rows) {
    for (size_t n = 0; n < open.size(); ++n) open[n] |= row.open[n];
    exact &= row.exact;
    asked += row.asked;
  }
  const Shown shown(tree, open);
  Json document = facts(origin, shown, exact, asked);
  document["base"] = global.base;
  Json points = Json::array();
  const auto count = static_cast<int64_t>(global.rows.size());
  const int64_t kept = std::min(count, kMostPoints);
  for (int64_t k = 0; k < kept; ++k) {
    const auto r = static_cast<size_t>(k * count / kept);
    points.push_back({{"sample", samples[r].sample}, {"values", shown.column(global.rows[r].values)}, {"inputs", inputs_of(shown, samples[r])}});
  }
  document["global"] = {{"rows", count}, {"importance", shown.column(global.importance)}, {"half_widths", shown.column(global.half_width)}, {"mean", shown.column(global.mean)},
                        {"interactions", shown.pairs(global.pairs)}, {"points", std::move(points)}};
  return document;
}

}  // namespace deepseek::explain
