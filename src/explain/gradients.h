// Attribution of a differentiable model's score by its gradients on the way from a baseline to the row.
//
// A feature that cannot move along the way, a category or a number that is missing at either end, stays as it is in the row and gets 0; what it would
// change is left in the gap.
#pragma once

#include "explain/table_model.h"

namespace deepseek::explain {

struct GradientAttribution {
  std::vector<double> values;      ///< [features]
  std::vector<double> half_width;  ///< [features], of the intervals for what sampling left open; 0 for integrated gradients
  double base = 0, score = 0;      ///< the score of the baseline (of a background: the mean), and of the row
  double gap = 0;                  ///< score - base - sum of the values
};

struct IntegratedGradientsOptions {
  int nodes = 16;           ///< Gauss-Legendre nodes of each piece of the path, 1 to 32
  double tolerance = 1e-5;  ///< the path's pieces are doubled until the integral of the gradient misses what it should add up to by no more, relative to max(1, that)
  int most_pieces = 256;    ///< and no further; 1: `nodes` points and no search
};

/// Integrated gradients: (row - baseline) times the mean gradient on the straight path between them. Exact up to rounding where the gradient along the path
/// is a polynomial of a degree below 2 * nodes. row, baseline: [features]. Refuses a model without a gradient and sizes that disagree; errors of the model.
/// Source: Sundararajan, Taly, Yan 2017.
[[nodiscard]] base::Result<GradientAttribution> integrated_gradients(const TableModel& model, std::span<const double> row, std::span<const double> baseline, int64_t output,
                                                                     const IntegratedGradientsOptions& options = {});

struct ExpectedGradientsOptions {
  int64_t samples = 0;  ///< gradients that may be asked; 0: 16 for each background row, 4096 at least and 65,536 at most
  double confidence = 0.95;
  uint64_t seed = 0;
};

/// Expected gradients: the mean of integrated gradients over the background's rows as baselines, from one random point in each of as many equal parts of
/// every path as `samples` allows. The intervals say how far the mean over all of this background may lie from the value: they come from how neighbouring
/// points differ beyond a straight line and, where there is no room for three points on every path, from how the rows that were drawn differ; a few rows that
/// outweigh all others then make them too narrow. background: [count, features], count >= 1. Refuses fewer than 16 samples. Source: Erion et al. 2021.
[[nodiscard]] base::Result<GradientAttribution> expected_gradients(const TableModel& model, std::span<const double> row, std::span<const double> background, int64_t output,
                                                                   const ExpectedGradientsOptions& options = {});

}  // namespace deepseek::explain
