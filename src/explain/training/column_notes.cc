// What of a table trains badly and can be seen before training.
#include <algorithm>

#include "base/text.h"
#include "explain/training/train_table.h"

namespace deepseek::explain {
namespace {

constexpr size_t kManyTexts = 50;      // of a column; fewer may each be a category
constexpr double kOneARow = 0.8;       // of the rows' texts differ: names or numbers of single rows
constexpr size_t kLongestDate = 32;

// "2024-01-31", "31.1.2024", "1/31/24 10:05": two or three numbers that '-', '/' or '.' part, and a time perhaps.
bool is_date(std::string_view text) {
  if (text.size() > kLongestDate) return false;
  const size_t end = std::min(text.find_first_of(" T"), text.size());
  size_t numbers = 0, digits = 0;
  char parted = 0;
  for (const char c : text.substr(0, end)) {
    if (c >= '0' && c <= '9') {
      numbers += digits++ == 0 ? 1 : 0;
      if (digits > 4) return false;
    } else if (digits > 0 && (c == '-' || c == '/' || c == '.') && (parted == 0 || parted == c)) {
      parted = c;
      digits = 0;
    } else {
      return false;
    }
  }
  return numbers == 3 && digits > 0 && std::all_of(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), [](char c) { return std::string_view(" T:.+-Z0123456789").find(c) != std::string_view::npos; });
}

}  // namespace

std::vector<std::string> column_notes(const formats::Table& table, const std::string& target) {
  std::vector<std::string> notes;
  for (const formats::Column& column : table.columns) {
    const size_t texts = column.categories.size();
    if (texts < 2 || column.name == target) continue;
    if (std::all_of(column.categories.begin(), column.categories.end(), is_date)) {
      notes.push_back(fmt::format("column '{}' holds dates, which are read as text: a date that was not there in training says nothing; give a number instead, such as days since then", column.name));
    } else if (texts >= kManyTexts && static_cast<double>(texts) >= kOneARow * static_cast<double>(table.rows)) {
      notes.push_back(fmt::format("column '{}' has {} texts in {} rows: what names single rows says nothing of others; leave it out", column.name, base::with_commas(texts),
                                  base::with_commas(static_cast<uint64_t>(table.rows))));
    }
  }
  return notes;
}

}  // namespace deepseek::explain
