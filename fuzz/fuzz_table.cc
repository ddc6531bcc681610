// Any bytes as a CSV file; what is a table is written and must be the same table again.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "formats/table/table.h"

namespace {

using deepseek::formats::Table;

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Categories may differ: one column's texts may look like numbers when they are read alone.
void check(const Table& table) {
  if (table.rows < 1 || table.columns.empty()) std::abort();
  for (const auto& column : table.columns) {
    if (column.values.size() != static_cast<size_t>(table.rows)) std::abort();
    for (const double value : column.values) {
      if (std::isinf(value)) std::abort();
      if (!column.is_number() && !std::isnan(value) && !(value >= 0 && value < static_cast<double>(column.categories.size()))) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto table = deepseek::formats::parse_table(text, "input");
  (void)deepseek::formats::parse_table(text, "input", {.names = {"a", "b"}, .separator = ';', .categorical = {"b"}});
  if (!table) return 0;
  check(*table);
  deepseek::formats::TableOptions as_written{.separator = ','};
  for (const auto& column : table->columns) {
    if (!column.is_number()) as_written.categorical.push_back(column.name);
  }
  const auto again = deepseek::formats::parse_table(deepseek::formats::csv_text(*table), "again", as_written);
  if (!again) return 0;  // a header of numbers alone
  if (again->rows != table->rows || again->columns.size() != table->columns.size()) std::abort();
  for (size_t j = 0; j < table->columns.size(); ++j) {
    if (again->columns[j].categories != table->columns[j].categories) std::abort();
    for (size_t r = 0; r < table->columns[j].values.size(); ++r) {
      if (!same(again->columns[j].values[r], table->columns[j].values[r])) std::abort();
    }
  }
  return 0;
}
