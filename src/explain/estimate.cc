#include "explain/estimate.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "explain/coalition_design.h"
#include "explain/coalition_process.h"
#include "explain/exact.h"
#include "explain/intervals.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

constexpr double kLargestWorth = 1e300;  // sums of differences stay numbers

bool is_leaf(const FeatureNode& node) { return node.feature >= 0; }

// Between features and between siblings.
std::vector<PairEstimate> exact_pairs(std::span<const double> table, const FeatureTree& tree, const EstimateOptions& o) {
  std::vector<PairEstimate> pairs;
  for (size_t a = 1; a < tree.nodes.size(); ++a) {
    for (size_t b = a + 1; b < tree.nodes.size(); ++b) {
      const bool features = is_leaf(tree.nodes[a]) && is_leaf(tree.nodes[b]), siblings = tree.nodes[a].parent == tree.nodes[b].parent;
      const auto first = static_cast<int32_t>(a), second = static_cast<int32_t>(b);
      if (features || siblings) pairs.push_back({first, second, winter_interaction(table, tree, first, second, o.index), 0});
    }
  }
  keep_strongest(pairs, o.pairs);
  return pairs;
}

Result<Estimate> enumerated(Game& game, const FeatureTree& tree, const EstimateOptions& o) {
  auto table = worth_table(game);
  if (!table) return base::pass(table);
  Estimate estimate{.values = winter_values(*table, tree), .half_width = {}, .open = std::vector<uint8_t>(tree.nodes.size(), 1), .pairs = {}, .base = table->front(), .total = table->back(),
                    .asked = static_cast<int64_t>(table->size()), .exact = true};
  estimate.half_width.assign(estimate.values.size(), 0);
  if (o.pairs > 0) estimate.pairs = exact_pairs(*table, tree, o);
  return estimate;
}

// The part of a tree that is open: its leaves are features or closed groups, and players of their own.
struct OpenTree {
  FeatureTree tree;
  std::vector<int32_t> whole;                  // its nodes in the whole tree
  std::vector<std::vector<int32_t>> members;   // features below its nodes
  std::vector<int32_t> first_member;           // of each player
};

class Estimator {
 public:
  Estimator(Game& game, const FeatureTree& tree, const EstimateOptions& o, int64_t pairs)
      : game_(game), tree_(tree), o_(o), pairs_(pairs), design_(game.players(), o.seed, o.pairs > 0), z_(two_sided(o.confidence)), below_(tree.features_below()) {}

  Result<Estimate> run() {
    const bool all = 8 * game_.players() <= 2 * pairs_;
    result_.open.assign(tree_.nodes.size(), all ? 1 : 0);
    open_up(0);
    for (int64_t goal = first_goal(all);; goal = std::min(pairs_, goal * 2)) {
      if (Status ok = ask(goal); !ok) return base::pass(ok);
      estimate();
      const bool opened = !all && goal < pairs_ && open_what_matters();
      result_.precise = o_.precision <= 0 || *std::max_element(result_.half_width.begin(), result_.half_width.end()) <= o_.precision;
      if (goal >= pairs_ || (o_.precision > 0 && result_.precise && !opened)) break;
    }
    if (o_.pairs > 0) find_pairs();
    return std::move(result_);
  }

 private:
  [[nodiscard]] int64_t first_goal(bool all) const {
    if (all && o_.precision <= 0) return pairs_;
    return std::min(pairs_, all ? std::max<int64_t>(2 * game_.players() + 16, 64) : std::max<int64_t>(pairs_ / 8, 16));
  }

  // Opens a node, and what has one child only as well.
  void open_up(size_t node) {
    result_.open[node] = 1;
    const auto& children = tree_.nodes[node].children;
    if (children.size() == 1) open_up(static_cast<size_t>(children.front()));
  }

  [[nodiscard]] OpenTree open_tree() const {
    OpenTree part;
    std::vector<int32_t> place(tree_.nodes.size(), -1);
    for (size_t n = 0; n < tree_.nodes.size(); ++n) {
      const FeatureNode& node = tree_.nodes[n];
      const int32_t parent = node.parent;
      if (n > 0 && (place[static_cast<size_t>(parent)] < 0 || result_.open[static_cast<size_t>(parent)] == 0)) continue;
      const bool player = is_leaf(node) || result_.open[n] == 0;
      place[n] = part.tree.add("", n > 0 ? place[static_cast<size_t>(parent)] : -1, player ? static_cast<int32_t>(part.first_member.size()) : -1);
      if (player) part.first_member.push_back(below_[n].front());
      part.whole.push_back(static_cast<int32_t>(n));
      part.members.push_back(below_[n]);
    }
    return part;
  }

  // Coalitions for what is uncertain: a node gets them by the intervals of its children, at first by their number.
  [[nodiscard]] std::vector<double> shares(const OpenTree& part) const {
    std::vector<double> weight(part.tree.nodes.size());
    for (size_t n = 0; n < weight.size(); ++n) {
      for (const int32_t c : part.tree.nodes[n].children) {
        const auto child = static_cast<size_t>(part.whole[static_cast<size_t>(c)]);
        weight[n] += result_.half_width.empty() || result_.half_width[child] == 0 ? mean_width_ : result_.half_width[child];
      }
    }
    return weight;
  }

  // The worth of what the design adds, and of its complements.
  Status ask(int64_t goal) {
    open_ = open_tree();
    design_.extend(goal, open_.tree, open_.members, shares(open_));
    const auto n = static_cast<size_t>(game_.players()), first = odd_.size(), count = static_cast<size_t>(design_.count()) - first;
    std::vector<uint8_t> both(design_.coalitions().begin() + static_cast<int64_t>(first * n), design_.coalitions().end());
    both.resize(2 * count * n);
    for (size_t i = 0; i < count * n; ++i) both[count * n + i] = both[i] == 0 ? 1 : 0;
    std::vector<double> worth(2 * count);
    if (Status ok = game_.worth(both, worth); !ok) return ok;
    if (first == 0 && count > 0) {
      result_.total = worth[0];
      result_.base = worth[count];
    }
    for (const double w : worth) {
      if (!(std::abs(w) <= kLargestWorth)) return base::fail("a score of {} is too large to be explained", w);
    }
    for (size_t i = 0; i < count; ++i) {
      odd_.push_back((worth[i] - worth[count + i]) / 2);
      even_.push_back((worth[i] + worth[count + i]) / 2);
    }
    result_.asked += static_cast<int64_t>(2 * count);
    return {};
  }

  // The coalitions over the players of the open tree.
  [[nodiscard]] std::vector<uint8_t> of_players() const {
    const auto n = static_cast<size_t>(game_.players());
    std::vector<uint8_t> coalitions;
    coalitions.reserve(odd_.size() * open_.first_member.size());
    for (size_t i = 0; i < odd_.size(); ++i) {
      for (const int32_t member : open_.first_member) coalitions.push_back(design_.coalitions()[i * n + static_cast<size_t>(member)]);
    }
    return coalitions;
  }

  [[nodiscard]] double deviations_to_half_width() const { return student(z_, degrees_of_freedom(odd_.size(), static_cast<int64_t>(open_.first_member.size()))); }

  void estimate() {
    const CoalitionPosterior posterior = coalition_posterior(of_players(), open_.tree, odd_);
    const double z = deviations_to_half_width();
    result_.values.assign(tree_.nodes.size(), 0);
    result_.half_width.assign(tree_.nodes.size(), 0);
    mean_width_ = 0;
    for (size_t n = 0; n < open_.whole.size(); ++n) {
      result_.values[static_cast<size_t>(open_.whole[n])] = posterior.mean[n];
      result_.half_width[static_cast<size_t>(open_.whole[n])] = z * posterior.deviation[n];
      mean_width_ += z * posterior.deviation[n] / static_cast<double>(open_.whole.size());
    }
    if (mean_width_ == 0) mean_width_ = 1;
  }

  // Opens the closed groups that may matter; false where there are none, or no coalitions are left for their members.
  bool open_what_matters() {
    if (design_.count() + 8 > pairs_) return false;
    double sum = 0;
    std::vector<size_t> closed;
    for (size_t i = 0; i < open_.whole.size(); ++i) {
      if (open_.tree.nodes[i].feature < 0) continue;
      const auto n = static_cast<size_t>(open_.whole[i]);
      sum += std::abs(result_.values[n]);
      if (!is_leaf(tree_.nodes[n])) closed.push_back(n);
    }
    const auto reach = [&](size_t n) { return std::abs(result_.values[n]) + result_.half_width[n]; };
    std::stable_sort(closed.begin(), closed.end(), [&](size_t a, size_t b) { return reach(a) > reach(b); });
    auto players = static_cast<int64_t>(open_.first_member.size());
    bool opened = false;
    for (const size_t n : closed) {
      players += static_cast<int64_t>(tree_.nodes[n].children.size());
      if (reach(n) < o_.negligible * sum || players > pairs_) break;
      open_up(n);
      opened = true;
    }
    return opened;
  }

  void find_pairs() {
    const double z = deviations_to_half_width();
    for (const PairPosterior& pair : strongest_interactions(of_players(), open_.tree, even_, o_.pairs, o_.index)) {
      result_.pairs.push_back({open_.whole[static_cast<size_t>(pair.first)], open_.whole[static_cast<size_t>(pair.second)], pair.mean, z * pair.deviation});
    }
  }

  Game& game_;
  const FeatureTree& tree_;
  const EstimateOptions& o_;
  int64_t pairs_;
  CoalitionDesign design_;
  double z_, mean_width_ = 1;
  std::vector<std::vector<int32_t>> below_;
  OpenTree open_;
  std::vector<double> odd_, even_;
  Estimate result_;
};

}  // namespace

void keep_strongest(std::vector<PairEstimate>& pairs, int64_t most) {
  std::stable_sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return std::abs(a.value) > std::abs(b.value); });
  pairs.resize(std::min(pairs.size(), static_cast<size_t>(most)));
}

Result<Estimate> estimate_winter(Game& game, const FeatureTree& tree, const EstimateOptions& o) {
  const int64_t n = game.players(), budget = o.budget == 0 ? 2 * n + 2048 : o.budget;
  if (n < 1) return base::refuse("there is nothing to attribute to: no features");
  if (tree.feature_count() != n) return base::refuse("the tree has {} features and the game {} players", tree.feature_count(), n);
  if (budget < 4) return base::refuse("a budget of {} coalitions is too small; 4 are the fewest", budget);
  if (!(o.confidence > 0 && o.confidence < 1)) return base::refuse("a confidence lies between 0 and 1; {} does not", o.confidence);
  if (n <= 2 || (n <= kMostExactPlayers && budget >= int64_t{1} << n)) return enumerated(game, tree, o);
  return Estimator(game, tree, o, budget / 2).run();
}

Result<Estimate> estimate_shapley(Game& game, const EstimateOptions& options) {
  std::vector<std::string> names(static_cast<size_t>(game.players()));
  auto result = estimate_winter(game, flat_tree(names), options);
  if (!result) return result;
  result->values.erase(result->values.begin());
  result->half_width.erase(result->half_width.begin());
  for (PairEstimate& pair : result->pairs) --pair.first, --pair.second;
  return result;
}

}  // namespace deepseek::explain
