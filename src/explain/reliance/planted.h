// A table for tests in which a dependence is planted. Private to this folder.
#pragma once

#include <random>

#include "formats/table/table.h"

namespace deepseek::explain {

/// hired = skill + noise above 0, but in a share `biased` of the rows it is whether the job is "a". school foretells the job in 7 rows of 10; luck says nothing.
inline formats::Table planted_table(int rows, double biased, uint32_t seed) {
  std::mt19937 draw(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  formats::Table table{.rows = rows};
  table.columns = {{.name = "skill"}, {.name = "job", .categories = {"a", "b", "c", "d"}}, {.name = "school", .categories = {"north", "south", "east", "west"}}, {.name = "luck"},
                   {.name = "hired", .categories = {"no", "yes"}}};
  for (int r = 0; r < rows; ++r) {
    const double skill = normal(draw);
    const auto job = static_cast<double>(draw() % 4), other = static_cast<double>(draw() % 4);
    const double values[] = {skill, r % 50 == 0 ? std::nan("") : job, uniform(draw) < 0.7 ? job : other, normal(draw), skill + 0.4 * normal(draw) > 0 ? 1.0 : 0.0};
    for (size_t c = 0; c < 5; ++c) table.columns[c].values.push_back(values[c]);
    if (uniform(draw) < biased) table.columns[4].values.back() = job == 0 ? 1 : 0;
  }
  return table;
}

}  // namespace deepseek::explain
