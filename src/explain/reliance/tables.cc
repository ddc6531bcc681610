#include "explain/reliance/tables.h"

#include <algorithm>

#include "base/random.h"

namespace deepseek::explain {

std::vector<int64_t> sampled(int64_t count, int64_t wanted, uint64_t seed) {
  base::SplitMix64 draw{seed};
  std::vector<int64_t> chosen;
  int64_t left = std::min(wanted, count);
  for (int64_t r = 0; r < count && left > 0; ++r) {  // selection sampling (Knuth, 3.4.2 S)
    if (draw.uniform() * static_cast<double>(count - r) >= static_cast<double>(left)) continue;
    chosen.push_back(r);
    --left;
  }
  return chosen;
}

std::vector<double> rows_sampled(std::span<const double> rows, size_t width, int64_t wanted, uint64_t seed) {
  std::vector<double> chosen;
  for (const int64_t r : sampled(static_cast<int64_t>(rows.size() / width), wanted, seed)) {
    const auto row = rows.subspan(static_cast<size_t>(r) * width, width);
    chosen.insert(chosen.end(), row.begin(), row.end());
  }
  return chosen;
}

formats::Table rows_of_table(const formats::Table& table, std::span<const int64_t> rows) {
  formats::Table some{.rows = static_cast<int64_t>(rows.size())};
  for (const formats::Column& column : table.columns) {
    formats::Column to{.name = column.name, .categories = column.categories};
    to.values.reserve(rows.size());
    for (const int64_t r : rows) to.values.push_back(column.values[static_cast<size_t>(r)]);
    some.columns.push_back(std::move(to));
  }
  return some;
}

formats::Table table_without(const formats::Table& table, const std::string& column) {
  formats::Table other{.rows = table.rows};
  std::copy_if(table.columns.begin(), table.columns.end(), std::back_inserter(other.columns), [&](const formats::Column& c) { return c.name != column; });
  return other;
}

}  // namespace deepseek::explain
