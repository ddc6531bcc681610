#include "explain/feature_tree.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <unordered_map>

#include "base/text.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;
using base::Status;

class GroupReader {
 public:
  explicit GroupReader(std::span<const std::string> features) : features_(features) {
    for (size_t j = 0; j < features.size(); ++j) place_.emplace(features[j], static_cast<int32_t>(j));
    tree_.nodes.push_back({.name = "all"});
  }

  base::Result<FeatureTree> read(const Json& groups) {
    if (!groups.is_object()) return base::refuse("groups are a JSON object of names, each with a list of features");
    if (Status ok = add_groups(groups, 0); !ok) return base::pass(ok);
    for (size_t j = 0; j < features_.size(); ++j) {
      if (!used_.contains(static_cast<int32_t>(j))) tree_.add(features_[j], 0, static_cast<int32_t>(j));
    }
    return std::move(tree_);
  }

 private:
  Status add_groups(const Json& groups, int32_t parent) {
    for (const auto& [name, content] : groups.items()) {
      if (place_.contains(name)) return base::refuse("'{}' is a feature; a group needs another name", name);
      if (!(content.is_array() || content.is_object()) || content.empty()) return base::refuse("group '{}' has no list of features", name);
      const int32_t group = tree_.add(name, parent, -1);
      if (content.is_object()) {
        if (Status ok = add_groups(content, group); !ok) return ok;
        continue;
      }
      for (const Json& item : content) {
        if (Status ok = item.is_object() ? add_groups(item, group) : add_feature(item, group); !ok) return ok;
      }
      if (tree_.nodes[static_cast<size_t>(group)].children.empty()) return base::refuse("group '{}' has no features", name);
    }
    return {};
  }

  // What a name that is no feature's stands for: a misspelt one, or the start of one that a YAML list cut at its comma.
  [[nodiscard]] std::string meant(const std::string& name) const {
    std::vector<std::string> names;
    for (const auto& [feature, place] : place_) names.emplace_back(feature);
    std::sort(names.begin(), names.end());
    if (std::string near = base::is_meant(name, names); !near.empty()) return near;
    const auto longer = std::find_if(names.begin(), names.end(), [&](const std::string& feature) { return feature.starts_with(name + ","); });
    return longer == names.end() ? "" : fmt::format("; put quotes around '{}'", *longer);
  }

  Status add_feature(const Json& item, int32_t group) {
    const std::string& owner = tree_.nodes[static_cast<size_t>(group)].name;
    if (!item.is_string()) return base::refuse("group '{}' holds {}, which is no name of a feature", owner, item.dump().substr(0, 60));
    const auto name = item.get<std::string>();
    const auto found = place_.find(name);
    if (found == place_.end()) return base::refuse("group '{}' names the feature '{}', which the model does not have{}", owner, name, meant(name));
    if (!used_.insert(found->second).second) return base::refuse("the feature '{}' is in two groups; '{}' is the second", name, owner);
    tree_.add(name, group, found->second);
    return {};
  }

  std::span<const std::string> features_;
  std::unordered_map<std::string, int32_t> place_;
  std::set<int32_t> used_;
  FeatureTree tree_;
};

struct Cluster {
  std::vector<int32_t> features;
  double height = 0;
  std::vector<size_t> parts;  // clusters it was made of
};

std::string central_name(const Cluster& cluster, std::span<const double> distance, std::span<const std::string> features) {
  const size_t n = features.size();
  double least = std::numeric_limits<double>::infinity();
  int32_t best = cluster.features.front();
  for (const int32_t i : cluster.features) {
    double sum = 0;
    for (const int32_t j : cluster.features) sum += distance[static_cast<size_t>(i) * n + static_cast<size_t>(j)];
    if (sum < least) least = sum, best = i;
  }
  return fmt::format("{} and {} more", features[static_cast<size_t>(best)], cluster.features.size() - 1);
}

void add_cluster(const std::vector<Cluster>& all, size_t index, int32_t parent, std::span<const double> distance, std::span<const std::string> features, FeatureTree& tree) {
  const Cluster& cluster = all[index];
  const bool leaf = cluster.parts.empty();
  const auto name = leaf ? features[static_cast<size_t>(cluster.features.front())] : central_name(cluster, distance, features);
  const int32_t node = tree.add(name, parent, leaf ? cluster.features.front() : -1);
  for (const size_t part : cluster.parts) add_cluster(all, part, node, distance, features, tree);
}

// A tree of groups copied, with some nodes' direct features clustered.
class Refiner {
 public:
  Refiner(const FeatureTree& groups, std::span<const double> distance, std::span<const std::string> features, double highest, size_t refine_above)
      : groups_(groups), distance_(distance), features_(features), highest_(highest), refine_above_(refine_above) {}

  FeatureTree refine() {
    tree_.nodes.push_back({.name = groups_.nodes[0].name});
    copy_children(0, 0);
    return std::move(tree_);
  }

 private:
  void copy_children(int32_t from, int32_t to) {
    std::vector<int32_t> direct;
    for (const int32_t child : groups_.nodes[static_cast<size_t>(from)].children) {
      const int32_t feature = groups_.nodes[static_cast<size_t>(child)].feature;
      if (feature >= 0) direct.push_back(feature);
    }
    const bool cluster = from == 0 ? direct.size() > 1 : refine_above_ > 0 && direct.size() > refine_above_;
    for (const int32_t child : groups_.nodes[static_cast<size_t>(from)].children) {
      const FeatureNode& node = groups_.nodes[static_cast<size_t>(child)];
      if (node.feature < 0) copy_children(child, tree_.add(node.name, to, -1));
      else if (!cluster) tree_.add(node.name, to, node.feature);
    }
    if (cluster) add_clusters(direct, to);
  }

  void add_clusters(const std::vector<int32_t>& direct, int32_t to) {
    const size_t n = direct.size(), all = features_.size();
    std::vector<double> between(n * n);
    std::vector<std::string> names;
    for (size_t i = 0; i < n; ++i) {
      names.push_back(features_[static_cast<size_t>(direct[i])]);
      for (size_t j = 0; j < n; ++j) between[i * n + j] = distance_[static_cast<size_t>(direct[i]) * all + static_cast<size_t>(direct[j])];
    }
    const FeatureTree clusters = clustered_tree(between, names, highest_);
    std::vector<int32_t> place(clusters.nodes.size(), to);  // of its nodes in tree_
    for (size_t k = 1; k < clusters.nodes.size(); ++k) {
      const FeatureNode& node = clusters.nodes[k];
      place[k] = tree_.add(node.name, place[static_cast<size_t>(node.parent)], node.feature < 0 ? -1 : direct[static_cast<size_t>(node.feature)]);
    }
  }

  const FeatureTree& groups_;
  std::span<const double> distance_;
  std::span<const std::string> features_;
  double highest_;
  size_t refine_above_;
  FeatureTree tree_;
};

}  // namespace

std::vector<std::vector<int32_t>> FeatureTree::features_below() const {
  std::vector<std::vector<int32_t>> below(nodes.size());
  for (size_t n = nodes.size(); n-- > 0;) {
    if (nodes[n].feature >= 0) below[n].push_back(nodes[n].feature);
    std::sort(below[n].begin(), below[n].end());
    if (n > 0) {
      auto& parent = below[static_cast<size_t>(nodes[n].parent)];
      parent.insert(parent.end(), below[n].begin(), below[n].end());
    }
  }
  return below;
}

int64_t FeatureTree::feature_count() const {
  return std::count_if(nodes.begin(), nodes.end(), [](const FeatureNode& node) { return node.feature >= 0; });
}

std::vector<int32_t> FeatureTree::leaves() const {
  std::vector<int32_t> leaves(static_cast<size_t>(feature_count()));
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (nodes[n].feature >= 0) leaves[static_cast<size_t>(nodes[n].feature)] = static_cast<int32_t>(n);
  }
  return leaves;
}

bool FeatureTree::is_flat() const { return static_cast<int64_t>(nodes.size()) == feature_count() + 1; }

std::vector<std::vector<int32_t>> FeatureTree::chains() const {
  std::vector<std::vector<int32_t>> chains;
  for (int32_t at : leaves()) {
    auto& chain = chains.emplace_back();
    for (; at >= 0; at = nodes[static_cast<size_t>(at)].parent) chain.push_back(at);
    std::reverse(chain.begin(), chain.end());
  }
  return chains;
}

void FeatureTree::add_up(std::span<double> of_nodes) const {
  for (size_t n = nodes.size(); n-- > 1;) of_nodes[static_cast<size_t>(nodes[n].parent)] += of_nodes[n];
}

int32_t FeatureTree::add(const std::string& name, int32_t parent, int32_t feature) {
  const auto index = static_cast<int32_t>(nodes.size());
  nodes.push_back({.name = name, .parent = parent, .feature = feature});
  if (parent >= 0) nodes[static_cast<size_t>(parent)].children.push_back(index);
  return index;
}

Fork fork_of(const FeatureTree& tree, int32_t first, int32_t second) {
  const auto parent = [&](int32_t n) { return tree.nodes[static_cast<size_t>(n)].parent; };
  std::vector<int32_t> ways;
  // A parent comes before its children: the later of two parents is not above the other.
  while (parent(first) != parent(second)) {
    int32_t& lower = parent(first) > parent(second) ? first : second;
    ways.push_back(lower);
    lower = parent(lower);
  }
  const int32_t node = parent(first);
  for (int32_t n = node; n > 0; n = parent(n)) ways.push_back(n);
  return {node, first, second, std::move(ways)};
}

FeatureTree flat_tree(std::span<const std::string> features) {
  FeatureTree tree;
  tree.nodes.push_back({.name = "all"});
  for (size_t j = 0; j < features.size(); ++j) tree.add(features[j], 0, static_cast<int32_t>(j));
  return tree;
}

base::Result<FeatureTree> tree_of_groups(const Json& groups, std::span<const std::string> features) { return GroupReader(features).read(groups); }

FeatureTree clustered_tree(std::span<const double> distance, std::span<const std::string> features, double highest) {
  const size_t n = features.size();
  std::vector<Cluster> clusters;
  std::vector<size_t> open(n);
  std::iota(open.begin(), open.end(), size_t{0});
  for (size_t j = 0; j < n; ++j) clusters.push_back({.features = {static_cast<int32_t>(j)}, .height = 0, .parts = {}});
  std::vector<double> between(distance.begin(), distance.end());  // [n, n], rows of open clusters; a join takes the place of its first part
  std::vector<size_t> cluster_at = open;
  while (open.size() > 1) {
    double least = std::numeric_limits<double>::infinity();
    size_t first = 0, second = 0;
    for (size_t a = 0; a < open.size(); ++a) {
      for (size_t b = a + 1; b < open.size(); ++b) {
        if (between[open[a] * n + open[b]] < least) least = between[open[a] * n + open[b]], first = a, second = b;
      }
    }
    if (least > highest) break;
    const size_t i = open[first], j = open[second];
    const Cluster &a = clusters[cluster_at[i]], &b = clusters[cluster_at[j]];
    const auto weight_a = static_cast<double>(a.features.size()), weight_b = static_cast<double>(b.features.size());
    for (const size_t k : open) between[i * n + k] = between[k * n + i] = (weight_a * between[i * n + k] + weight_b * between[j * n + k]) / (weight_a + weight_b);
    Cluster joined{.features = a.features, .height = least, .parts = {}};
    joined.features.insert(joined.features.end(), b.features.begin(), b.features.end());
    for (const size_t part : {cluster_at[i], cluster_at[j]}) {  // what joins at one height is one group
      const Cluster& c = clusters[part];
      if (!c.parts.empty() && c.height >= least) joined.parts.insert(joined.parts.end(), c.parts.begin(), c.parts.end());
      else joined.parts.push_back(part);
    }
    clusters.push_back(std::move(joined));
    cluster_at[i] = clusters.size() - 1;
    open.erase(open.begin() + static_cast<int64_t>(second));
  }
  FeatureTree tree;
  tree.nodes.push_back({.name = "all"});
  if (open.size() == 1 && !clusters[cluster_at[open[0]]].parts.empty()) {
    for (const size_t part : clusters[cluster_at[open[0]]].parts) add_cluster(clusters, part, 0, distance, features, tree);
  } else {
    for (const size_t i : open) add_cluster(clusters, cluster_at[i], 0, distance, features, tree);
  }
  return tree;
}

base::Result<FeatureTree> hybrid_tree(const Json& groups, std::span<const double> distance, std::span<const std::string> features, double highest, size_t refine_above) {
  auto tree = tree_of_groups(groups, features);
  if (!tree) return tree;
  return Refiner(*tree, distance, features, highest, refine_above).refine();
}

}  // namespace deepseek::explain
