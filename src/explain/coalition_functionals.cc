#include "explain/coalition_functionals.h"

#include <algorithm>
#include <cmath>

#include "explain/exact.h"
#include "explain/tree_shap/quadrature.h"
#include "explain/vectors.h"

namespace deepseek::explain {
namespace {

// Enough for a product of `factors` linear factors, up to the largest there is.
const Quadrature& nodes_for(size_t factors) { return quadrature(static_cast<int>(std::clamp<size_t>(factors / 2 + 1, 1, kMostPathFeatures / 2))); }

double sum_of_squared_chances(size_t others, InteractionIndex index) {
  double sum = 0;
  for (size_t s = 0; s <= others; ++s) {
    const double subsets = std::lgamma(static_cast<double>(others) + 1) - std::lgamma(static_cast<double>(s) + 1) - std::lgamma(static_cast<double>(others - s) + 1);
    sum += std::exp(subsets + 2 * std::log(chance_of(static_cast<int64_t>(s), static_cast<int64_t>(others), index)));
  }
  return sum;
}

constexpr double kLeast = 1e-300;  // instead of a factor that f64 cannot hold

EXPLAIN_INLINE Doubles mixed(const double* near, const double* far, double t) {
  const Doubles x = t * at(near) + (1 - t) * at(far);
  return x > kLeast ? x : splat(kLeast);
}

// to *= t near + (1 - t) far.
EXPLAIN_CLONES void multiply_mixed(double* to, const double* near, const double* far, double t, size_t room) {
  for (size_t s = 0; s < room; s += 8) at(to + s) *= mixed(near + s, far + s, t);
}

// to += weight * product / (t near + (1 - t) far).
EXPLAIN_CLONES void add_without(double* to, double weight, const double* product, const double* near, const double* far, double t, size_t room) {
  for (size_t s = 0; s < room; s += 8) at(to + s) += weight * at(product + s) / mixed(near + s, far + s, t);
}

// The same without two of them.
EXPLAIN_CLONES void add_without_two(double* to, double weight, const double* product, const double* near, const double* far, const double* near2, const double* far2, double t, size_t room) {
  for (size_t s = 0; s < room; s += 8) at(to + s) += weight * at(product + s) / mixed(near + s, far + s, t) / mixed(near2 + s, far2 + s, t);
}

// Chance that a sibling of this length is on the same side in two draws, for each pair of the quadrature's nodes, as the covariance counts it.
double agreement(double length, double t, double u) {
  const double both = (2 * t - 1) * (2 * u - 1);
  return std::max(kLeast, (1 + both) / 2 + (1 - both) / 2 * std::exp(-length));
}

void multiply(std::vector<double>& to, std::span<const double> by) {
  for (size_t s = 0; s < to.size(); ++s) to[s] *= by[s];
}

}  // namespace

CoalitionFunctionals::CoalitionFunctionals(const FeatureTree& tree, const Matrix& signs, std::span<const double> lengths)
    : tree_(tree), count_(signs.columns), room_((signs.columns + 7) & ~size_t{7}), nodes_(tree.nodes.size()) {
  for (size_t n = nodes_.size(); n-- > 0;) {
    Node& node = nodes_[n];
    node.near.assign(room_, 1);
    node.far.assign(room_, 1);
    node.whole.assign(count_, 0);
    const int32_t player = tree.nodes[n].feature;
    if (player < 0) {
      join_children(n);
      continue;
    }
    node.length = lengths[static_cast<size_t>(player)];
    const double apart = std::exp(-node.length);
    const double* sign = signs.row(static_cast<size_t>(player));
    for (size_t s = 0; s < count_; ++s) {
      (sign[s] > 0 ? node.far : node.near)[s] = apart;
      node.whole[s] = sign[s] > 0 ? 1 : -1;
    }
  }
  for (size_t n = 0; n < nodes_.size(); ++n) fill_children(n);
}

void CoalitionFunctionals::join_children(size_t parent) {
  Node& node = nodes_[parent];
  node.whole = at(tree_.nodes[parent].children.front()).whole;
  node.in.assign(count_, 0);
  node.broken.assign(count_, 0);
  for (const int32_t c : tree_.nodes[parent].children) {
    const Node& child = at(c);
    node.length += child.length;
    multiply(node.near, child.near);
    multiply(node.far, child.far);
    for (size_t s = 0; s < count_; ++s) {
      if (child.whole[s] != node.whole[s]) node.whole[s] = 0;
      node.in[s] += child.whole[s] == 1 ? 1 : 0;
      node.broken[s] += child.whole[s] == 0 ? 1 : 0;
    }
  }
}

// What all siblings of each child are to it.
void CoalitionFunctionals::fill_children(size_t parent) {
  const auto& children = tree_.nodes[parent].children;
  if (children.empty()) return;
  const Quadrature& q = nodes_for(children.size());
  Matrix& products = nodes_[parent].products = Matrix(static_cast<size_t>(q.count), room_);
  for (int i = 0; i < q.count; ++i) {
    double* product = products.row(static_cast<size_t>(i));
    std::fill(product, product + room_, 1.0);
    for (const int32_t c : children) multiply_mixed(product, at(c).near.data(), at(c).far.data(), q.at[i], room_);
  }
  std::vector<double>& agreed = nodes_[parent].agreed;
  for (int i = 0; i < q.count * q.count; ++i) {
    agreed.push_back(1);
    for (const int32_t c : children) agreed.back() *= agreement(at(c).length, q.at[i / q.count], q.at[i % q.count]);
  }
  const double own = sum_of_squared_chances(children.size() - 1, InteractionIndex::kShapley);
  for (size_t k = 0; k < children.size(); ++k) {
    Node& child = nodes_[static_cast<size_t>(children[k])];
    child.among.assign(room_, 0);
    for (int i = 0; i < q.count; ++i) add_without(child.among.data(), q.weight[i], products.row(static_cast<size_t>(i)), child.near.data(), child.far.data(), q.at[i], room_);
    child.chance = chances(static_cast<int32_t>(parent), {{children[k]}}, InteractionIndex::kShapley);
    child.variance = {agreement_of(static_cast<int32_t>(parent), {{children[k]}}, InteractionIndex::kShapley), own};
  }
}

std::vector<double> CoalitionFunctionals::chances(int32_t parent, std::span<const int32_t> without, InteractionIndex index) const {
  const Node& node = at(parent);
  const size_t others = tree_.nodes[static_cast<size_t>(parent)].children.size() - without.size();
  std::vector<double> table(others + 1), result(count_);
  for (size_t s = 0; s <= others; ++s) table[s] = chance_of(static_cast<int64_t>(s), static_cast<int64_t>(others), index);
  for (size_t s = 0; s < count_; ++s) {
    int32_t in = node.in[s], broken = node.broken[s];
    for (const int32_t c : without) {
      in -= at(c).whole[s] == 1 ? 1 : 0;
      broken -= at(c).whole[s] == 0 ? 1 : 0;
    }
    if (broken == 0) result[s] = table[static_cast<size_t>(in)];
  }
  return result;
}

// Over two draws of every sibling's part, less `without`.
double CoalitionFunctionals::agreement_of(int32_t parent, std::span<const int32_t> without, InteractionIndex index) const {
  const Quadrature& q = nodes_for(tree_.nodes[static_cast<size_t>(parent)].children.size());
  double sum = 0;
  for (int i = 0; i < q.count * q.count; ++i) {
    const int a = i / q.count, b = i % q.count;
    double part = q.weight[a] * q.weight[b] * density(q.at[a], index) * density(q.at[b], index) * at(parent).agreed[static_cast<size_t>(i)];
    for (const int32_t c : without) part /= agreement(at(c).length, q.at[a], q.at[b]);
    sum += part;
  }
  return sum;
}

std::vector<double> CoalitionFunctionals::difference(int32_t node) const {
  std::vector<double> result(count_);
  for (size_t s = 0; s < count_; ++s) result[s] = at(node).near[s] - at(node).far[s];
  return result;
}

CoalitionFunctionals::Weights CoalitionFunctionals::of(int32_t node) const {
  Weights weights{difference(node), std::vector<double>(count_)};
  for (size_t s = 0; s < count_; ++s) weights.own[s] = 2 * at(node).whole[s];
  for (int32_t n = node; n > 0; n = tree_.nodes[static_cast<size_t>(n)].parent) {
    multiply(weights.cross, at(n).among);
    multiply(weights.own, at(n).chance);
  }
  return weights;
}

CoalitionFunctionals::Variances CoalitionFunctionals::variance_of(int32_t node) const {
  Variances variances{2 * -std::expm1(-at(node).length), 4};
  for (int32_t n = node; n > 0; n = tree_.nodes[static_cast<size_t>(n)].parent) {
    variances.smooth *= at(n).variance.smooth;
    variances.own *= at(n).variance.own;
  }
  return variances;
}

CoalitionFunctionals::Weights CoalitionFunctionals::of(int32_t first, int32_t second, InteractionIndex index) const {
  const Fork fork = fork_of(tree_, first, second);
  const auto& children = tree_.nodes[static_cast<size_t>(fork.node)].children;
  const Quadrature& q = nodes_for(children.size());
  const Node &a = at(fork.first), &b = at(fork.second);
  std::vector<double> among(room_);
  for (int i = 0; i < q.count; ++i) {
    add_without_two(among.data(), q.weight[i] * density(q.at[i], index), at(fork.node).products.row(static_cast<size_t>(i)), a.near.data(), a.far.data(), b.near.data(), b.far.data(), q.at[i], room_);
  }
  const int32_t without[] = {fork.first, fork.second};
  Weights weights{difference(first), chances(fork.node, without, index)};
  multiply(weights.cross, difference(second));
  multiply(weights.cross, among);
  for (size_t s = 0; s < count_; ++s) weights.own[s] *= 2 * at(first).whole[s] * at(second).whole[s];
  for (const int32_t n : fork.ways) {
    multiply(weights.cross, at(n).among);
    multiply(weights.own, at(n).chance);
  }
  return weights;
}

CoalitionFunctionals::Variances CoalitionFunctionals::variance_of(int32_t first, int32_t second, InteractionIndex index) const {
  const Fork fork = fork_of(tree_, first, second);
  const int32_t without[] = {fork.first, fork.second};
  const size_t others = tree_.nodes[static_cast<size_t>(fork.node)].children.size() - 2;
  Variances variances{4 * std::expm1(-at(first).length) * std::expm1(-at(second).length) * agreement_of(fork.node, without, index), 8 * sum_of_squared_chances(others, index)};
  for (const int32_t n : fork.ways) {
    variances.smooth *= at(n).variance.smooth;
    variances.own *= at(n).variance.own;
  }
  return variances;
}

}  // namespace deepseek::explain
