#include "explain/tree_shap/tree_shap.h"

#include <algorithm>
#include <cmath>

#include "explain/tree_shap/path_walk.h"
#include "explain/tree_shap/quadrature.h"
#include "hardware/team.h"

namespace deepseek::explain {
namespace {

// An empty share would divide by zero; a leaf's other shares are far larger, so that this one changes nothing.
constexpr double kLeastShare = 1e-25;

// Factors of a path's features at each node of the quadrature, with and without the row on the path, and what divides them out again.
struct Factors {
  double with[kMostPathFeatures / 2][kMostPathFeatures], without[kMostPathFeatures / 2][kMostPathFeatures];
  double over_with[kMostPathFeatures / 2][kMostPathFeatures], over_without[kMostPathFeatures / 2][kMostPathFeatures];

  Factors(std::span<const PathElement> path, const Quadrature& nodes) {
    for (int q = 0; q < nodes.count; ++q) {
      for (size_t j = 0; j < path.size(); ++j) {
        const double share = std::max(path[j].share, kLeastShare);
        with[q][j] = share + nodes.at[q] * (1 - share);
        without[q][j] = share * (1 - nodes.at[q]);
        over_with[q][j] = 1 / with[q][j];
        over_without[q][j] = 1 / without[q][j];
      }
    }
  }
};

template <int kFeatures>  // 0: as many as the path has
EXPLAIN_INLINE void add_values(std::span<const PathElement> path, double value, Doubles* phi) {
  const int m = kFeatures > 0 ? kFeatures : static_cast<int>(path.size());
  const Quadrature& nodes = quadrature((m + 1) / 2);
  const Factors f(path, nodes);
  for (int v = 0; v < kVectors; ++v) {
    constexpr int kRoom = kFeatures > 0 ? kFeatures : kMostPathFeatures;
    Bits follows[kRoom];
    Doubles sum[kRoom];
    for (int j = 0; j < m; ++j) {
      follows[j] = path[static_cast<size_t>(j)].follows[v];
      sum[j] = splat(0);
    }
    for (int q = 0; q < nodes.count; ++q) {
      Doubles product = splat(nodes.weight[q] * value);
      for (int j = 0; j < m; ++j) product *= pick(follows[j], f.with[q][j], f.without[q][j]);
      for (int j = 0; j < m; ++j) sum[j] += product * pick(follows[j], f.over_with[q][j], f.over_without[q][j]);
    }
    for (int j = 0; j < m; ++j) {
      const PathElement& element = path[static_cast<size_t>(j)];
      phi[element.feature * kVectors + v] += sum[j] * pick(follows[j], 1 - element.share, -element.share);
    }
  }
}

EXPLAIN_CLONES void leaf_values(std::span<const PathElement> path, double value, Doubles* phi) {
  switch (path.size()) {
    case 1: return add_values<1>(path, value, phi);
    case 2: return add_values<2>(path, value, phi);
    case 3: return add_values<3>(path, value, phi);
    case 4: return add_values<4>(path, value, phi);
    case 5: return add_values<5>(path, value, phi);
    case 6: return add_values<6>(path, value, phi);
    case 7: return add_values<7>(path, value, phi);
    case 8: return add_values<8>(path, value, phi);
    default: return add_values<0>(path, value, phi);
  }
}

// Half the interaction index of each pair of the path, both ways round.
EXPLAIN_CLONES void leaf_interactions(std::span<const PathElement> path, double value, int64_t features, Doubles* phi) {
  const auto m = static_cast<int>(path.size());
  const Quadrature& nodes = quadrature(m / 2);
  const Factors f(path, nodes);
  for (int v = 0; v < kVectors; ++v) {
    Bits follows[kMostPathFeatures];
    for (int j = 0; j < m; ++j) follows[j] = path[static_cast<size_t>(j)].follows[v];
    Doubles product[kMostPathFeatures / 2];
    for (int q = 0; q < nodes.count; ++q) {
      product[q] = splat(0.5 * nodes.weight[q] * value);
      for (int j = 0; j < m; ++j) product[q] *= pick(follows[j], f.with[q][j], f.without[q][j]);
    }
    for (int i = 1; i < m; ++i) {
      Doubles without_i[kMostPathFeatures / 2];
      for (int q = 0; q < nodes.count; ++q) without_i[q] = product[q] * pick(follows[i], f.over_with[q][i], f.over_without[q][i]);
      const PathElement& a = path[static_cast<size_t>(i)];
      const Doubles step_i = pick(follows[i], 1 - a.share, -a.share);
      for (int j = 0; j < i; ++j) {
        const PathElement& b = path[static_cast<size_t>(j)];
        Doubles sum = splat(0);
        for (int q = 0; q < nodes.count; ++q) sum += without_i[q] * pick(follows[j], f.over_with[q][j], f.over_without[q][j]);
        sum *= step_i * pick(follows[j], 1 - b.share, -b.share);
        phi[(a.feature * features + b.feature) * kVectors + v] += sum;
        phi[(b.feature * features + a.feature) * kVectors + v] += sum;
      }
    }
  }
}

// body(block of rows as columns, room of `size` vectors set to 0, first row, rows, output) for each block and output; store it from the room.
template <typename Add, typename Store>
void for_each_block(const TreeEnsemble& model, std::span<const double> rows, int64_t size, int threads, const Add& add, const Store& store) {
  const int64_t features = model.feature_count(), count = static_cast<int64_t>(rows.size()) / features, blocks = (count + kBlockRows - 1) / kBlockRows;
  hardware::Team team(threads);
  team.run([&](int) {
    std::vector<double> column_room(static_cast<size_t>(features * kBlockRows)), sums(static_cast<size_t>(size * kBlockRows));
    auto *columns = reinterpret_cast<Doubles*>(column_room.data()), *room = reinterpret_cast<Doubles*>(sums.data());
    PathWalk walk;
    team.share(blocks, 1, [&](int64_t from, int64_t to) {
      for (int64_t block = from; block < to; ++block) {
        const int64_t first = block * kBlockRows, n = std::min<int64_t>(kBlockRows, count - first);
        to_columns(model, rows.subspan(static_cast<size_t>(first * features), static_cast<size_t>(n * features)), columns);
        for (int64_t output = 0; output < model.outputs(); ++output) {
          std::fill(sums.begin(), sums.end(), 0.0);
          for (const Tree& tree : model.trees) {
            if (tree.output != output) continue;
            walk.leaves(tree, columns, [&](std::span<const PathElement> path, double value) { add(path, value, room); });
          }
          store(room, first, n, output);
        }
      }
    });
  });
}

double lane(const Doubles* vectors, int64_t row) { return vectors[row / kLanes][row % kLanes]; }

}  // namespace

TreeAttribution tree_shap(const TreeEnsemble& model, std::span<const double> rows, int threads) {
  const int64_t features = model.feature_count(), outputs = model.outputs();
  TreeAttribution result{std::vector<double>(rows.size() * static_cast<size_t>(outputs)), expected_scores(model)};
  for_each_block(
      model, rows, features, threads, [](std::span<const PathElement> path, double value, Doubles* phi) { leaf_values(path, value, phi); },
      [&](const Doubles* phi, int64_t first, int64_t n, int64_t output) {
        for (int64_t r = 0; r < n; ++r) {
          double* to = result.values.data() + ((first + r) * outputs + output) * features;
          for (int64_t j = 0; j < features; ++j) to[j] = lane(phi + j * kVectors, r);
        }
      });
  return result;
}

std::vector<double> tree_shap_interactions(const TreeEnsemble& model, std::span<const double> rows, int threads) {
  const int64_t features = model.feature_count(), outputs = model.outputs(), square = features * features;
  std::vector<double> result(rows.size() * static_cast<size_t>(outputs * features));
  for_each_block(
      model, rows, square + features, threads,
      [&](std::span<const PathElement> path, double value, Doubles* phi) {
        leaf_values(path, value, phi + square * kVectors);
        if (path.size() > 1) leaf_interactions(path, value, features, phi);
      },
      [&](const Doubles* phi, int64_t first, int64_t n, int64_t output) {
        for (int64_t r = 0; r < n; ++r) {
          double* to = result.data() + ((first + r) * outputs + output) * square;
          for (int64_t i = 0; i < features; ++i) {
            double rest = lane(phi + (square + i) * kVectors, r);
            for (int64_t j = 0; j < features; ++j) {
              to[i * features + j] = lane(phi + (i * features + j) * kVectors, r);
              rest -= to[i * features + j];
            }
            to[i * features + i] += rest;
          }
        }
      });
  return result;
}

}  // namespace deepseek::explain
