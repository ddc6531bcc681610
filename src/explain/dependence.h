// How far the columns of a table depend on each other, as the distance by which features are clustered.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace deepseek::explain {

struct DependenceOptions {
  int64_t most_rows = 5000;  ///< more rows are sampled
  uint64_t seed = 0;         ///< of the sample
};

/// Distance [features, features] of the columns of rows [count, features]: 1 - dependence, symmetric, 0 on the diagonal. is_category [features]: 1 where a column
/// holds codes. Dependence, over the rows in which both columns have a finite value:
///   numbers            |Spearman's rank correlation|, ties at their mean rank
///   number, category   correlation ratio sqrt(e), e = 1 - (1 - eta^2) (n - 1) / (n - k), which corrects eta^2 for the number k of categories (Kelley 1935)
///   categories         Cramér's V with Bergsma's correction for bias (2013)
/// A column of one value, or of as many categories as rows, depends on nothing: distance 1. So do two columns with fewer than three rows in common.
/// Where pairs have missing values or categories and are many, fewer rows are taken (500 at least), so that 2,000 features take seconds. Memory: three
/// copies of the sampled rows, and the result.
[[nodiscard]] std::vector<double> feature_distance(std::span<const double> rows, std::span<const uint8_t> is_category, const DependenceOptions& options = {});

}  // namespace deepseek::explain
