#include "explain/report/page_data.h"

#include <algorithm>
#include <cmath>

#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;

// Nodes of the page: those that are kept, in the document's order, and one after them for what each group leaves out.
struct Selection {
  struct Others {
    int parent, leaves;
    double value = 0;     // of the sample
    double greatest = 0;  // importance over all rows
  };
  std::vector<int> nodes;      // of the document
  std::vector<int> page_node;  // of each node of the document; -1: left out
  std::vector<Others> others;  // parent: of the page
};

void keep_interactions(const Document& document, const std::vector<ShownInteraction>& list, size_t count, std::vector<bool>& kept) {
  for (size_t i = 0; i < std::min(count, list.size()); ++i) {
    for (int node : list[i].nodes) {
      for (; node >= 0 && !kept[node]; node = document.nodes[node].parent) kept[node] = true;
    }
  }
}

std::vector<bool> kept_nodes(const Document& document, const PageLimits& limits) {
  std::vector<bool> kept(document.nodes.size());
  kept[0] = true;
  if (document.local) {
    keep_strongest(document, document.local->values, limits.features, kept);
    keep_interactions(document, document.local->interactions, limits.interactions, kept);
  }
  if (document.global) {
    keep_strongest(document, document.global->importance, limits.features, kept);
    keep_interactions(document, document.global->interactions, limits.interactions, kept);
  }
  return kept;
}

Selection select(const Document& document, const PageLimits& limits) {
  const std::vector<bool> kept = kept_nodes(document, limits);
  Selection selection;
  selection.page_node.assign(document.nodes.size(), -1);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!kept[i]) continue;
    selection.page_node[i] = static_cast<int>(selection.nodes.size());
    selection.nodes.push_back(static_cast<int>(i));
  }
  for (const int node : selection.nodes) {
    Selection::Others others{selection.page_node[node], 0};
    for (const int child : document.nodes[node].children) {
      if (kept[child]) continue;
      others.leaves += document.nodes[child].leaves;
      if (document.local) others.value += document.local->values[child];
      if (document.global) others.greatest = std::max(others.greatest, document.global->importance[child]);
    }
    if (others.leaves > 0) selection.others.push_back(others);
  }
  return selection;
}

// Five digits are more than a pixel shows.
double rounded(double x) {
  if (x == 0 || !std::isfinite(x)) return 0;
  const double unit = std::pow(10, std::floor(std::log10(std::abs(x))) - 4);
  return std::isfinite(unit) && unit > 0 ? std::stod(fmt::format("{:.5g}", x)) : 0;
}

Json shown_input(const Json& input, size_t columns) { return input.is_string() ? Json(fitted(harmless(input.get<std::string>()), static_cast<int>(columns))) : input; }

Json nodes_json(const Document& document, const Selection& selection, const PageLimits& limits) {
  Json nodes = Json::array();
  for (const int node : selection.nodes) {
    const ShownNode& shown = document.nodes[node];
    Json entry{{"name", fitted(harmless(shown.name), static_cast<int>(limits.name))}, {"parent", shown.parent < 0 ? -1 : selection.page_node[shown.parent]}, {"leaves",
        shown.leaves}};
    if (shown.feature >= 0) entry["leaf"] = true;
    nodes.push_back(std::move(entry));
  }
  for (const auto& others : selection.others) nodes.push_back({{"name", ""}, {"parent", others.parent}, {"leaves", others.leaves}, {"others", true}});
  return nodes;
}

Json column(const Selection& selection, const std::vector<double>& of_nodes) {
  Json result = Json::array();
  for (const int node : selection.nodes) result.push_back(of_nodes[node]);
  return result;
}

Json interactions_json(const Selection& selection, const std::vector<ShownInteraction>& list, size_t count) {
  Json result = Json::array();
  for (size_t i = 0; i < std::min(count, list.size()); ++i) {
    Json nodes = Json::array();
    for (const int node : list[i].nodes) nodes.push_back(selection.page_node[node]);
    result.push_back({{"nodes", std::move(nodes)}, {"value", list[i].value}, {"halfWidth", list[i].half_width}});
  }
  return result;
}

Json sample_json(const Document& document, const Selection& selection, const PageLimits& limits) {
  const ShownSample& sample = *document.local;
  Json json{{"score", sample.score}, {"values", column(selection, sample.values)}, {"halfWidths", column(selection, sample.half_widths)}};
  if (sample.sample >= 0) json["sample"] = sample.sample;
  Json inputs = Json::array(), missing = Json::array();
  for (const int node : selection.nodes) {
    if (sample.missing[node]) missing.push_back(inputs.size());
    inputs.push_back(shown_input(sample.inputs[node], limits.name));
  }
  for (const auto& others : selection.others) {
    json["values"].push_back(others.value);
    json["halfWidths"].push_back(nullptr);
    inputs.push_back(nullptr);
  }
  json["inputs"] = std::move(inputs);
  json["missing"] = std::move(missing);
  json["interactions"] = interactions_json(selection, sample.interactions, limits.interactions);
  json["interactionCount"] = sample.interactions.size();
  return json;
}

Json points_json(const Document& document, const Selection& selection, const PageLimits& limits) {
  const ShownRows& rows = *document.global;
  std::vector<int> leaves = leaves_by_size(document, rows.importance);
  leaves.resize(std::min(leaves.size(), limits.swarms));
  const size_t step = std::max<size_t>(1, (rows.points.size() + limits.points - 1) / limits.points);
  Json samples = Json::array(), features = Json::array();
  for (size_t i = 0; i < rows.points.size(); i += step) samples.push_back(rows.points[i].sample);
  for (const int leaf : leaves) {
    Json values = Json::array(), inputs = Json::array();
    for (size_t i = 0; i < rows.points.size(); i += step) {
      const Json& input = rows.points[i].inputs[leaf];
      values.push_back(rounded(rows.points[i].values[leaf]));
      inputs.push_back(input.is_number_float() ? Json(rounded(input.get<double>())) : shown_input(input, 40));
    }
    features.push_back({{"node", selection.page_node[leaf]}, {"values", std::move(values)}, {"inputs", std::move(inputs)}});
  }
  return {{"samples", std::move(samples)}, {"features", std::move(features)}};
}

Json rows_json(const Document& document, const Selection& selection, const PageLimits& limits) {
  const ShownRows& rows = *document.global;
  Json json{{"rows", rows.rows}, {"dataRows", std::max(rows.rows, document.data_rows)}, {"importance", column(selection, rows.importance)}, {"halfWidths", column(selection, rows.half_widths)}, {"mean", column(selection, rows.mean)}};
  for (const auto& others : selection.others) {
    json["importance"].push_back(others.greatest);
    json["halfWidths"].push_back(nullptr);
    json["mean"].push_back(nullptr);
  }
  json["interactions"] = interactions_json(selection, rows.interactions, limits.interactions);
  json["interactionCount"] = rows.interactions.size();
  if (!rows.points.empty()) json["points"] = points_json(document, selection, limits);
  return json;
}

Json texts_json(const Teller& teller, const Selection& selection, const PageLimits& limits) {
  const Document& document = teller.document;
  const auto cut = [&](const std::string& text) { return fitted(text, static_cast<int>(4 * limits.name)); };
  Json texts{{"subject", cut(teller.subject())}, {"conclusion", cut(teller.conclusion())}, {"detail", cut(teller.conclusion_detail())}, {"units",
      teller.say.term(document.units)}, {"baseName", teller.base_name()}};
  if (document.local) {
    texts["prediction"] = teller.prediction();
    texts["sampleSentences"] = teller.sample_sentences();
    Json sentences = Json::array();
    for (size_t i = 0; i < std::min(limits.interactions, document.local->interactions.size()); ++i) sentences.push_back(teller.interaction_sentence(document.local->interactions[i], false));
    texts["interactionSentences"] = std::move(sentences);
  }
  if (document.global) {
    texts["rowSentences"] = teller.row_sentences();
    Json directions = Json::array();
    for (const int node : selection.nodes) directions.push_back(document.nodes[node].feature >= 0 ? teller.direction(node) : "");
    texts["directions"] = std::move(directions);
  }
  Json method = Json::array();
  for (const auto& [label, text] : teller.method()) method.push_back({label, cut(text)});
  texts["method"] = std::move(method);
  return texts;
}

}  // namespace

Json page_data(const Document& document, const std::string& language, const PageLimits& limits) {
  const Selection selection = select(document, limits);
  const Teller english(document, Language::kEnglish, "−"), chinese(document, Language::kChinese, "−");
  Json data{{"language", language == "zh" ? "zh" : "en"}, {"units", document.units}, {"base", document.base}, {"exact", document.exact}, {"confidence", document.confidence}};
  data["decimals"] = english.figures.decimals;
  data["meanDecimals"] = english.mean_figures.decimals;
  data["features"] = document.nodes[0].leaves;
  data["nodes"] = nodes_json(document, selection, limits);
  if (document.local) data["local"] = sample_json(document, selection, limits);
  if (document.global) data["global"] = rows_json(document, selection, limits);
  data["texts"] = {{"en", texts_json(english, selection, limits)}, {"zh", texts_json(chinese, selection, limits)}};
  return data;
}

}  // namespace deepseek::explain
