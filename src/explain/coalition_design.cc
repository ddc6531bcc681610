#include "explain/coalition_design.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace deepseek::explain {
namespace {

void take(const std::vector<int32_t>& members, std::string& row) {
  for (const int32_t member : members) row[static_cast<size_t>(member)] = '\1';
}

// Sums of the Shapley kernel over the sizes 1 to children - 1.
std::vector<double> kernel_sums(size_t children) {
  std::vector<double> sums;
  double sum = 0;
  for (size_t size = 1; size < children; ++size) sums.push_back(sum += 1 / (static_cast<double>(size) * static_cast<double>(children - size)));
  return sums;
}

}  // namespace

// A node with two children or more, and how it is drawn from.
struct CoalitionDesign::Place {
  int32_t node = 0;
  double until = 0;  // sum of the weights so far
  std::vector<double> sizes;
  std::vector<size_t> order;
};

CoalitionDesign::CoalitionDesign(int64_t players, uint64_t seed, bool for_pairs) : players_(players), draw_{seed}, for_pairs_(for_pairs) { add(std::string(static_cast<size_t>(players), '\1')); }

void CoalitionDesign::add(std::string row) {
  if (row[0] == '\0') {
    for (char& c : row) c = c == '\0' ? '\1' : '\0';  // the one of a pair that holds the first player
  }
  if (!seen_.insert(row).second) return;
  coalitions_.insert(coalitions_.end(), row.begin(), row.end());
}

void CoalitionDesign::singles(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members) {
  for (size_t n = 1; n < tree.nodes.size(); ++n) {
    std::string row(static_cast<size_t>(players_), '\0');
    take(members[n], row);
    add(std::move(row));
  }
}

// A part of a group: some children, and of one group among them a part again.
void CoalitionDesign::take_some(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, int32_t node, std::string& row) {
  const auto& children = tree.nodes[static_cast<size_t>(node)].children;
  if (children.empty()) return;
  const double t = draw_.uniform();
  const int32_t broken = children[below(children.size())];
  for (const int32_t c : children) {
    if (c == broken && !tree.nodes[static_cast<size_t>(c)].children.empty()) take_some(tree, members, c, row);
    else if (draw_.uniform() < t) take(members[static_cast<size_t>(c)], row);
  }
}

void CoalitionDesign::take_siblings(const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, int32_t node, std::string& row) {
  std::vector<int32_t> siblings;
  std::vector<double> chance;
  for (int32_t n = node; n > 0; n = tree.nodes[static_cast<size_t>(n)].parent) {
    const double t = draw_.uniform();
    for (const int32_t sibling : tree.nodes[static_cast<size_t>(tree.nodes[static_cast<size_t>(n)].parent)].children) {
      if (sibling != n) siblings.push_back(sibling), chance.push_back(t);
    }
  }
  int32_t broken = -1;
  if (for_pairs_ && draw_.uniform() < 0.5) {
    std::vector<int32_t> groups;
    std::copy_if(siblings.begin(), siblings.end(), std::back_inserter(groups), [&](int32_t n) { return !tree.nodes[static_cast<size_t>(n)].children.empty(); });
    if (!groups.empty()) broken = groups[below(groups.size())];
  }
  for (size_t i = 0; i < siblings.size(); ++i) {
    if (siblings[i] == broken) take_some(tree, members, broken, row);
    else if (draw_.uniform() < chance[i]) take(members[static_cast<size_t>(siblings[i])], row);
  }
}

void CoalitionDesign::extend(int64_t pairs, const FeatureTree& tree, const std::vector<std::vector<int32_t>>& members, std::span<const double> weight) {
  if (pairs > count() + static_cast<int64_t>(tree.nodes.size()) - 1) singles(tree, members);
  std::vector<Place> places;
  double sum = 0;
  for (size_t n = 0; n < tree.nodes.size(); ++n) {
    const size_t children = tree.nodes[n].children.size();
    if (children < 2) continue;
    places.push_back({static_cast<int32_t>(n), sum += weight[n], kernel_sums(children), std::vector<size_t>(children)});
    std::iota(places.back().order.begin(), places.back().order.end(), size_t{0});
  }
  if (places.empty()) return;
  for (int64_t tries = 0; count() < pairs && tries < 200 * pairs; ++tries) {
    const double at = draw_.uniform() * sum;
    Place& place = *std::find_if(places.begin(), places.end() - 1, [&](const Place& p) { return at < p.until; });
    std::string row(static_cast<size_t>(players_), '\0');
    const auto& children = tree.nodes[static_cast<size_t>(place.node)].children;
    const double size_at = draw_.uniform() * place.sizes.back();
    const auto size = static_cast<size_t>(1 + (std::upper_bound(place.sizes.begin(), place.sizes.end() - 1, size_at) - place.sizes.begin()));
    for (size_t i = 0; i < size; ++i) {
      std::swap(place.order[i], place.order[i + below(children.size() - i)]);
      take(members[static_cast<size_t>(children[place.order[i]])], row);
    }
    take_siblings(tree, members, place.node, row);
    add(std::move(row));
  }
}

}  // namespace deepseek::explain
