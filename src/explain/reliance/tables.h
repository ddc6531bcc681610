// Parts of tables. Private to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/table/table.h"

namespace deepseek::explain {

/// `wanted` of the rows [count, width], or all, by base::some_of().
[[nodiscard]] std::vector<double> rows_sampled(std::span<const double> rows, size_t width, int64_t wanted, uint64_t seed);
/// These rows of the table, each as often as it is named.
[[nodiscard]] formats::Table rows_of_table(const formats::Table& table, std::span<const int64_t> rows);
/// All columns but this one.
[[nodiscard]] formats::Table table_without(const formats::Table& table, const std::string& column);

}  // namespace deepseek::explain
