// The rows of a CSV text, as pieces of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::formats {

struct Cell {
  std::string_view text;  ///< without the quotes around it and without blanks around those
  bool quoted = false;
  bool doubled = false;  ///< quotes in it are still doubled

  /// The text with its quotes as they are meant, in `scratch` where that differs.
  [[nodiscard]] std::string_view meant(std::string& scratch) const;
};

class RowReader {
 public:
  /// `text` outlives the reader and the cells.
  RowReader(std::string_view text, char separator, int64_t max_cells);

  /// The next row that is not blank; false at the end. Errors name the line: quotes that do not close, text after quotes, too many cells.
  [[nodiscard]] base::Result<bool> next(std::vector<Cell>& cells);
  [[nodiscard]] size_t line() const { return row_line_; }  ///< in which the row begins, from 1
  [[nodiscard]] size_t position() const { return at_; }    ///< behind the row

 private:
  enum Class : uint8_t { kText, kSeparator, kLineEnd };
  [[nodiscard]] Class class_of(char c) const { return classes_[static_cast<unsigned char>(c)]; }
  void skip_blanks();
  void end_line();
  [[nodiscard]] Cell plain_cell();
  [[nodiscard]] base::Result<Cell> quoted_cell();

  std::string_view text_;
  char separator_;
  int64_t max_cells_;
  size_t at_ = 0, line_ = 1, row_line_ = 1;
  Class classes_[256] = {};
};

/// The separator among , ; tab | that splits the first rows into the same number of cells, the largest one; `columns` is that number, 0 where it is not known.
[[nodiscard]] char separator_of(std::string_view text, size_t columns, int64_t max_cells);

}  // namespace deepseek::formats
