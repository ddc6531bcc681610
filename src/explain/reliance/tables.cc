#include "explain/reliance/tables.h"

#include <algorithm>

#include "base/random.h"
#include "explain/table_model.h"

namespace deepseek::explain {

std::vector<double> rows_sampled(std::span<const double> rows, size_t width, int64_t wanted, uint64_t seed) {
  return rows_at(rows, static_cast<int64_t>(width), base::some_of(static_cast<int64_t>(rows.size() / width), wanted, seed));
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
