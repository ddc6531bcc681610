#include "explain/reliance/reliance.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "explain/groups_file.h"
#include "explain/intervals.h"
#include "explain/reliance/shares.h"
#include "formats/table/table.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;

// [nodes] of an explanation.
struct NodeShares {
  std::vector<Share> shares;
  bool all_open = true;
};

// The features and closed groups whose |values| make up what moved one row's score.
double moved(const LocalExplanation& row, const FeatureTree& tree, std::vector<uint8_t>& reached) {
  double sum = 0;
  reached.assign(tree.nodes.size(), 0);
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    const auto parent = tree.nodes[n].parent;
    reached[n] = parent < 0 || (reached[static_cast<size_t>(parent)] != 0 && row.open[static_cast<size_t>(parent)] != 0) ? 1 : 0;
    if (reached[n] != 0 && (tree.nodes[n].feature >= 0 || row.open[n] == 0)) sum += std::abs(row.values[n]);
  }
  return sum;
}

Result<NodeShares> node_shares(const GlobalExplanation& global, const FeatureTree& tree, double z) {
  const size_t nodes = tree.nodes.size();
  if (global.rows.size() < 2) return base::refuse("reliance needs an explanation of two rows at least; this one has {}", global.rows.size());
  std::vector<double> sizes, totals, inner;
  std::vector<uint8_t> reached;
  NodeShares found;
  for (const LocalExplanation& row : global.rows) {
    if (row.values.size() != nodes || row.half_width.size() != nodes || row.open.size() != nodes) return base::refuse("the explanation is of another tree: {} nodes, not {}", row.values.size(), nodes);
    totals.push_back(moved(row, tree, reached));
    for (size_t n = 0; n < nodes; ++n) {
      sizes.push_back(reached[n] != 0 ? std::abs(row.values[n]) : 0);
      inner.push_back(reached[n] != 0 ? row.half_width[n] : 0);
      found.all_open = found.all_open && reached[n] != 0;
    }
  }
  found.shares = shares_of(sizes, totals, inner, z);
  return found;
}

Result<std::vector<std::optional<double>>> stated(const FeatureTree& tree, const std::map<std::string, double>& expected) {
  std::vector<std::optional<double>> of_node(tree.nodes.size());
  std::vector<std::string> names;
  for (size_t n = 1; n < tree.nodes.size(); ++n) names.push_back(tree.nodes[n].name);
  for (const auto& [name, share] : expected) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) return base::refuse("there is no feature or group '{}' to expect a share of{}", name, base::is_meant(name, names));
    if (!(share >= 0 && share <= 1)) return base::refuse("'{}': a share lies between 0 and 1; {} does not", name, share);
    of_node[static_cast<size_t>(at - names.begin()) + 1] = share;
  }
  return of_node;
}

Result<double> expected_share(const std::string& name, const Json& value) {
  std::optional<double> share;
  if (value.is_number()) share = value.get<double>();
  if (value.is_string()) share = formats::number_in(value.get_ref<const std::string&>());  // YAML's are texts
  if (!share || !(*share >= 0 && *share <= 1)) return base::fail("'{}': an expected share is a number from 0 to 1", name);
  return *share;
}

}  // namespace

Result<std::map<std::string, double>> read_expectation(const base::fs::path& path) {
  auto json = read_groups(path);
  if (!json) return base::pass(json);
  if (!json->is_object() || json->empty()) return base::fail("{}: expectations are names with a share each, such as 'occupation: 0.02'", path.string());
  std::map<std::string, double> expected;
  for (const auto& [name, value] : json->items()) {
    auto share = expected_share(name, value);
    if (!share) return base::within(path.string(), share.error());
    expected[name] = *share;
  }
  return expected;
}

Result<Reliance> find_reliance(const GlobalExplanation& global, const FeatureTree& tree, const RelianceOptions& options) {
  if (!(options.confidence > 0 && options.confidence < 1)) return base::refuse("a confidence lies between 0 and 1; {} does not", options.confidence);
  auto expected = stated(tree, options.expected);
  if (!expected) return base::pass(expected);
  const size_t compared = options.reference != nullptr ? tree.nodes.size() - 1 : options.expected.size();
  const double z = two_sided(1 - (1 - options.confidence) / static_cast<double>(std::max<size_t>(1, compared)));
  auto found = node_shares(global, tree, z);
  if (!found) return base::pass(found);
  std::optional<NodeShares> reference;
  if (options.reference != nullptr) {
    auto other = node_shares(*options.reference, tree, z);
    if (!other) return base::within("the reference", other.error());
    reference = std::move(*other);
  }
  Reliance reliance{.exact_rows = found->all_open && (!reference || reference->all_open)};
  for (size_t n = 1; n < tree.nodes.size(); ++n) {
    NodeReliance node{.node = static_cast<int32_t>(n), .share = found->shares[n].share, .half_width = found->shares[n].half_width, .expected = (*expected)[n]};
    const bool is_stated = node.expected.has_value();
    if (!is_stated && reference) {
      node.expected = reference->shares[n].share;
      node.expected_half_width = reference->shares[n].half_width;
    }
    if (node.expected) {
      node.excess = node.share - *node.expected;
      node.excess_half_width = std::hypot(node.half_width, node.expected_half_width);
      node.flagged = node.excess - node.excess_half_width > (is_stated ? 0 : options.least_excess);
    }
    reliance.nodes.push_back(node);
  }
  std::stable_sort(reliance.nodes.begin(), reliance.nodes.end(), [](const NodeReliance& a, const NodeReliance& b) {
    if (a.flagged != b.flagged) return a.flagged;
    if (a.expected.has_value() != b.expected.has_value()) return a.expected.has_value();
    return a.expected ? a.excess > b.excess : a.share > b.share;
  });
  return reliance;
}

Json reliance_json(const Reliance& reliance, const FeatureTree& tree) {
  Json all = Json::array();
  for (const NodeReliance& node : reliance.nodes) {
    const FeatureNode& of = tree.nodes[static_cast<size_t>(node.node)];
    Json item = {{"name", of.name}};
    if (of.feature < 0) item["group"] = true;
    item["share"] = node.share;
    item["half_width"] = node.half_width;
    if (node.expected) {
      item["expected"] = *node.expected;
      item["excess"] = node.excess;
      item["excess_half_width"] = node.excess_half_width;
      item["flagged"] = node.flagged;
    }
    all.push_back(std::move(item));
  }
  return all;
}

}  // namespace deepseek::explain
