// Tables from CSV and TSV files: columns of numbers or of categories.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::formats {

struct Column {
  std::string name;
  std::vector<std::string> categories;  ///< sorted by bytes; empty: numbers
  std::vector<double> values;           ///< [rows]: the number, or the place in `categories`; NaN is missing

  [[nodiscard]] bool is_number() const { return categories.empty(); }
};

struct Table {
  std::vector<Column> columns;
  int64_t rows = 0;
  std::vector<std::string> notes;  ///< for the log: what was read otherwise than it is written

  /// The column of that name, or nullptr.
  [[nodiscard]] const Column* find(std::string_view name) const;
};

struct TableOptions {
  std::vector<std::string> names;        ///< of the columns, where the file has no header; a first row that repeats them is a header all the same
  char separator = 0;                    ///< 0: the one of , ; tab | that splits the first rows alike
  std::vector<std::string> missing{"", "?", "NA", "N/A", "NaN", "nan", "null", "None"};
  std::vector<std::string> categorical;  ///< columns that are read as text even where they look like numbers
  size_t max_bytes = size_t{4} << 30;
  int64_t max_rows = 100'000'000;
  int64_t max_columns = 100'000;
};

/// Reads a whole file. A column is one of numbers where every value that is not missing is a number; its infinite values count as missing, with a note.
/// Where no comma separates columns and every value is a number once its comma is a point ("0,5"), that is what is read, with a note.
/// Blanks around a value do not count unless it is quoted, nor do blank lines. Quotes are those of RFC 4180: they may hold separators, line ends and, doubled,
/// quotes; a value in quotes can be a number or missing too. A column without a name is named after its place: "column 1".
/// Errors name the file and the line: no rows, rows of different length, two columns of one name, a first row of numbers where a header belongs, text after a
/// closing quote, bytes that are not UTF-8.
[[nodiscard]] base::Result<Table> read_table(const base::fs::path& path, const TableOptions& options = {});
/// The same from memory; `name` stands for the path in messages.
[[nodiscard]] base::Result<Table> parse_table(std::string_view text, const std::string& name, const TableOptions& options = {});

/// CSV of RFC 4180 with a header and \n; missing values are empty, numbers have the digits that give them back exactly.
[[nodiscard]] std::string csv_text(const Table& table);
/// The same into a file, in pieces.
[[nodiscard]] base::Status write_table(const Table& table, const base::fs::path& path);

/// The number that a value holds: digits with a sign, point and exponent as they please, or inf, infinity; beyond the range of double infinite or 0.
/// Nothing where there is anything else, blanks and nan too.
[[nodiscard]] std::optional<double> number_in(std::string_view text);

}  // namespace deepseek::formats
