#include <cmath>

#include "formats/table/table.h"

namespace deepseek::formats {
namespace {

constexpr size_t kPiece = size_t{1} << 20;  // bytes of a write

// Quoted where a reader would take it for something else.
void append_text(std::string& to, std::string_view text) {
  const bool plain = text.find_first_of(",\"\r\n") == std::string_view::npos && !text.empty() && std::string_view(" \t\xEF").find(text.front()) == std::string_view::npos &&
                     text.back() != ' ' && text.back() != '\t';
  if (plain) {
    to += text;
    return;
  }
  to += '"';
  for (const char c : text) {
    if (c == '"') to += '"';
    to += c;
  }
  to += '"';
}

void append_value(std::string& to, const Column& column, size_t row) {
  const double value = column.values[row];
  if (!std::isfinite(value)) return;
  if (column.is_number()) {
    fmt::format_to(std::back_inserter(to), "{}", value);
  } else if (value >= 0 && value < static_cast<double>(column.categories.size())) {
    append_text(to, column.categories[static_cast<size_t>(value)]);
  }
}

void append_header(std::string& to, const Table& table) {
  for (size_t j = 0; j < table.columns.size(); ++j) {
    if (j > 0) to += ',';
    append_text(to, table.columns[j].name);
  }
  to += '\n';
}

void append_row(std::string& to, const Table& table, size_t row) {
  const size_t begin = to.size();
  for (size_t j = 0; j < table.columns.size(); ++j) {
    if (j > 0) to += ',';
    append_value(to, table.columns[j], row);
  }
  if (to.size() == begin) to += "\"\"";  // a blank line would be no row
  to += '\n';
}

}  // namespace

std::string csv_text(const Table& table) {
  std::string text;
  append_header(text, table);
  for (int64_t row = 0; row < table.rows; ++row) append_row(text, table, static_cast<size_t>(row));
  return text;
}

base::Status write_table(const Table& table, const base::fs::path& path) {
  auto file = base::AtomicFile::create(path);
  if (!file) return base::pass(file);
  std::string text;
  append_header(text, table);
  for (int64_t row = 0; row < table.rows; ++row) {
    append_row(text, table, static_cast<size_t>(row));
    if (text.size() < kPiece) continue;
    if (base::Status ok = file->write(text); !ok) return ok;
    text.clear();
  }
  if (base::Status ok = file->write(text); !ok) return ok;
  return file->commit();
}

}  // namespace deepseek::formats
