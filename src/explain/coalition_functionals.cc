#include "explain/coalition_functionals.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "explain/exact.h"
#include "explain/tree_shap/quadrature.h"

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

at::Tensor table_of_chances(size_t others, InteractionIndex index) {
  std::vector<double> table(others + 2);  // one more, for coalitions whose chance is 0 anyway
  for (size_t s = 0; s <= others; ++s) table[s] = chance_of(static_cast<int64_t>(s), static_cast<int64_t>(others), index);
  return at::tensor(table, at::kDouble);
}

// log(t near + (1 - t) far) of logarithms.
class Mixture {
 public:
  explicit Mixture(const at::Tensor& near, const at::Tensor& far) : high_(at::maximum(near, far)), near_((near - high_).exp()), far_((far - high_).exp()) {}
  [[nodiscard]] at::Tensor log_at(double t) const { return (near_ * t + far_ * (1 - t)).log() + high_; }

 private:
  at::Tensor high_, near_, far_;
};

// Over two draws of every level's t: agreement of siblings with these lengths, each left out in turn; the last entry leaves none out.
std::vector<double> squared_levels(std::span<const double> lengths, const Quadrature& q, InteractionIndex index) {
  std::vector<double> sums(lengths.size() + 1), factor(lengths.size());
  for (int a = 0; a < q.count; ++a) {
    for (int b = 0; b < q.count; ++b) {
      const double both = (2 * q.at[a] - 1) * (2 * q.at[b] - 1);
      double log_all = std::log(q.weight[a] * q.weight[b] * density(q.at[a], index) * density(q.at[b], index));
      for (size_t i = 0; i < lengths.size(); ++i) log_all += factor[i] = std::log((1 + both) / 2 + (1 - both) / 2 * std::exp(-lengths[i]));
      for (size_t i = 0; i < lengths.size(); ++i) sums[i] += std::exp(log_all - factor[i]);
      sums.back() += std::exp(log_all);
    }
  }
  return sums;
}

at::Tensor pick_chances(const at::Tensor& taking, const at::Tensor& broken, size_t others, InteractionIndex index) {
  const at::Tensor table = table_of_chances(others, index);
  const at::Tensor at_place = table.index_select(0, taking.clamp(0, static_cast<int64_t>(others)).to(at::kLong).flatten()).view_as(taking);
  return at::where(broken > 0, at::zeros_like(at_place), at_place);
}

}  // namespace

struct CoalitionFunctionals::Level {
  at::Tensor among, chance;
};

CoalitionFunctionals::CoalitionFunctionals(const FeatureTree& tree, const at::Tensor& signs, std::span<const double> lengths) : tree_(tree), nodes_(tree.nodes.size()) {
  const int64_t count = signs.size(0);
  const at::Tensor columns = signs.t().contiguous();
  for (size_t n = nodes_.size(); n-- > 0;) {
    Node& node = nodes_[n];
    if (const int32_t player = tree.nodes[n].feature; player >= 0) {
      const at::Tensor sign = columns[player];
      node.length = lengths[static_cast<size_t>(player)];
      node.near = (sign - 1) * (node.length / 2);
      node.far = (sign + 1) * (-node.length / 2);
      node.whole = sign;
      continue;
    }
    node.near = at::zeros({count}, at::kDouble);
    node.far = at::zeros({count}, at::kDouble);
    node.whole = nodes_[static_cast<size_t>(tree.nodes[n].children.front())].whole;
    for (const int32_t c : tree.nodes[n].children) {
      const Node& child = nodes_[static_cast<size_t>(c)];
      node.length += child.length;
      node.near = node.near + child.near;
      node.far = node.far + child.far;
      node.whole = at::where(node.whole == child.whole, node.whole, at::zeros_like(node.whole));
    }
  }
  for (size_t n = 0; n < nodes_.size(); ++n) fill_children(static_cast<int32_t>(n));
}

// What all siblings of each child are to it.
void CoalitionFunctionals::fill_children(int32_t parent) {
  const auto& children = tree_.nodes[static_cast<size_t>(parent)].children;
  if (children.empty()) return;
  std::vector<at::Tensor> near, far, whole;
  std::vector<double> lengths;
  for (const int32_t c : children) {
    const Node& child = nodes_[static_cast<size_t>(c)];
    near.push_back(child.near), far.push_back(child.far), whole.push_back(child.whole), lengths.push_back(child.length);
  }
  const Quadrature& q = nodes_for(children.size() - 1);
  const Mixture mixture(at::stack(near), at::stack(far));
  at::Tensor among = at::zeros({static_cast<int64_t>(children.size()), near.front().size(0)}, at::kDouble);
  for (int i = 0; i < q.count; ++i) {
    const at::Tensor log = mixture.log_at(q.at[i]);
    among += q.weight[i] * (log.sum(0, true) - log).exp();
  }
  const at::Tensor state = at::stack(whole), broken = (state == 0).to(at::kDouble), in = (state == 1).to(at::kDouble);
  const at::Tensor chance = pick_chances(in.sum(0, true) - in, broken.sum(0, true) - broken, children.size() - 1, InteractionIndex::kShapley);
  const auto squares = squared_levels(lengths, q, InteractionIndex::kShapley);
  const double own = sum_of_squared_chances(children.size() - 1, InteractionIndex::kShapley);
  for (size_t i = 0; i < children.size(); ++i) {
    Node& child = nodes_[static_cast<size_t>(children[i])];
    child.among = among[static_cast<int64_t>(i)];
    child.chance = chance[static_cast<int64_t>(i)];
    child.variance = {squares[i], own};
  }
}

CoalitionFunctionals::Level CoalitionFunctionals::level(int32_t parent, std::vector<int32_t> without, InteractionIndex index) const {
  const int64_t count = nodes_[0].near.size(0);
  std::vector<at::Tensor> near, far;
  at::Tensor broken = at::zeros({count}, at::kDouble), in = broken.clone();
  for (const int32_t c : tree_.nodes[static_cast<size_t>(parent)].children) {
    if (std::find(without.begin(), without.end(), c) != without.end()) continue;
    const Node& child = nodes_[static_cast<size_t>(c)];
    near.push_back(child.near), far.push_back(child.far);
    broken += (child.whole == 0).to(at::kDouble);
    in += (child.whole == 1).to(at::kDouble);
  }
  const size_t others = near.size();
  const Quadrature& q = nodes_for(others + 2);
  Level level{at::zeros({count}, at::kDouble), pick_chances(in, broken, others, index)};
  if (others == 0) {
    level.among.fill_(1);
    return level;
  }
  const Mixture mixture(at::stack(near), at::stack(far));
  for (int i = 0; i < q.count; ++i) level.among += q.weight[i] * density(q.at[i], index) * mixture.log_at(q.at[i]).sum(0).exp();
  return level;
}

at::Tensor CoalitionFunctionals::difference(int32_t node) const {
  const Node& n = nodes_[static_cast<size_t>(node)];
  return n.near.exp() - n.far.exp();
}

CoalitionFunctionals::Weights CoalitionFunctionals::of(int32_t node) const {
  Weights weights{difference(node), 2 * nodes_[static_cast<size_t>(node)].whole};
  for (int32_t n = node; n > 0; n = tree_.nodes[static_cast<size_t>(n)].parent) {
    weights.cross = weights.cross * nodes_[static_cast<size_t>(n)].among;
    weights.own = weights.own * nodes_[static_cast<size_t>(n)].chance;
  }
  return weights;
}

CoalitionFunctionals::Variances CoalitionFunctionals::variance_of(int32_t node) const {
  Variances variances{2 * -std::expm1(-nodes_[static_cast<size_t>(node)].length), 4};
  for (int32_t n = node; n > 0; n = tree_.nodes[static_cast<size_t>(n)].parent) {
    variances.smooth *= nodes_[static_cast<size_t>(n)].variance.smooth;
    variances.own *= nodes_[static_cast<size_t>(n)].variance.own;
  }
  return variances;
}

CoalitionFunctionals::Weights CoalitionFunctionals::of(int32_t first, int32_t second, InteractionIndex index) const {
  const Fork fork = fork_of(tree_, first, second);
  const auto at = [&](int32_t n) -> const Node& { return nodes_[static_cast<size_t>(n)]; };
  const Level parting = level(fork.node, {fork.first, fork.second}, index);
  Weights weights{difference(first) * difference(second) * parting.among, 2 * at(first).whole * at(second).whole * parting.chance};
  for (const int32_t n : fork.ways) {
    weights.cross = weights.cross * at(n).among;
    weights.own = weights.own * at(n).chance;
  }
  return weights;
}

CoalitionFunctionals::Variances CoalitionFunctionals::variance_of(int32_t first, int32_t second, InteractionIndex index) const {
  const Fork fork = fork_of(tree_, first, second);
  const auto at = [&](int32_t n) -> const Node& { return nodes_[static_cast<size_t>(n)]; };
  std::vector<double> lengths;
  for (const int32_t c : tree_.nodes[static_cast<size_t>(fork.node)].children) {
    if (c != fork.first && c != fork.second) lengths.push_back(at(c).length);
  }
  Variances variances{4 * std::expm1(-at(first).length) * std::expm1(-at(second).length) * squared_levels(lengths, nodes_for(lengths.size() + 2), index).back(),
                      8 * sum_of_squared_chances(lengths.size(), index)};
  for (const int32_t n : fork.ways) {
    variances.smooth *= at(n).variance.smooth;
    variances.own *= at(n).variance.own;
  }
  return variances;
}

}  // namespace deepseek::explain
