#include "formats/table/cells.h"

#include <algorithm>

namespace deepseek::formats {
namespace {

constexpr size_t kSample = size_t{1} << 18;  // bytes that decide about the separator
constexpr size_t kSampleRows = 50;

bool is_blank(char c) { return c == ' ' || c == '\t'; }

// Cells of the first rows under a separator: their number, and whether all rows have it.
struct Split {
  size_t cells = 0;
  bool alike = false;
};

Split split_by(char separator, std::string_view text, int64_t max_cells) {
  const std::string_view sample = text.substr(0, kSample);
  RowReader reader(sample, separator, max_cells);
  Split split;
  std::vector<Cell> cells;
  for (size_t row = 0; row < kSampleRows; ++row) {
    const auto more = reader.next(cells);
    if (!more || !*more) {
      split.alike = split.cells > 0 && (more || sample.size() < text.size());
      return split;
    }
    if (reader.position() >= sample.size() && sample.size() < text.size()) break;  // cut off
    if (split.cells == 0) split.cells = cells.size();
    if (cells.size() != split.cells) return split;
  }
  split.alike = split.cells > 0;
  return split;
}

}  // namespace

std::string_view Cell::meant(std::string& scratch) const {
  if (!doubled) return text;
  scratch.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    scratch += text[i];
    if (text[i] == '"') ++i;
  }
  return scratch;
}

RowReader::RowReader(std::string_view text, char separator, int64_t max_cells) : text_(text), separator_(separator), max_cells_(max_cells) {
  classes_[static_cast<unsigned char>('\n')] = classes_[static_cast<unsigned char>('\r')] = kLineEnd;
  classes_[static_cast<unsigned char>(separator)] = kSeparator;
}

base::Result<bool> RowReader::next(std::vector<Cell>& cells) {
  while (at_ < text_.size()) {
    row_line_ = line_;
    cells.clear();
    for (bool more = true; more;) {
      if (static_cast<int64_t>(cells.size()) == max_cells_) return base::fail("line {} has more than {} values", row_line_, max_cells_);
      skip_blanks();
      if (at_ < text_.size() && text_[at_] == '"') {
        auto cell = quoted_cell();
        if (!cell) return base::pass(cell);
        cells.push_back(*cell);
      } else {
        cells.push_back(plain_cell());
      }
      more = at_ < text_.size() && class_of(text_[at_]) == kSeparator;
      if (more) ++at_;
    }
    end_line();
    if (cells.size() > 1 || cells[0].quoted || !cells[0].text.empty()) return true;
  }
  return false;
}

void RowReader::skip_blanks() {
  while (at_ < text_.size() && is_blank(text_[at_]) && text_[at_] != separator_) ++at_;
}

// \n, \r\n or \r, where the text does not end.
void RowReader::end_line() {
  if (at_ == text_.size()) return;
  if (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++at_;
  ++at_;
  ++line_;
}

Cell RowReader::plain_cell() {
  const size_t begin = at_;
  while (at_ < text_.size() && class_of(text_[at_]) == kText) ++at_;
  size_t end = at_;
  while (end > begin && is_blank(text_[end - 1])) --end;
  return {.text = text_.substr(begin, end - begin)};
}

base::Result<Cell> RowReader::quoted_cell() {
  const size_t begin = ++at_, opened = line_;
  Cell cell{.quoted = true};
  for (;; ++at_) {
    if (at_ >= text_.size()) return base::fail("line {}: a quote opens here and does not close", opened);
    const char c = text_[at_];
    if (c == '\n' || (c == '\r' && text_.substr(at_ + 1, 1) != "\n")) ++line_;
    if (c != '"') continue;
    if (text_.substr(at_ + 1, 1) != "\"") break;
    cell.doubled = true;
    ++at_;
  }
  cell.text = text_.substr(begin, at_++ - begin);
  skip_blanks();
  if (at_ < text_.size() && class_of(text_[at_]) == kText) return base::fail("line {}: text follows a closing quote; a quote within quotes is written twice", line_);
  return cell;
}

char separator_of(std::string_view text, size_t columns, int64_t max_cells) {
  char best = ',';
  size_t most = 1;
  bool best_alike = false;
  for (const char separator : {',', ';', '\t', '|'}) {
    const Split split = split_by(separator, text, max_cells);
    if (columns > 1 && split.alike && split.cells == columns) return separator;
    if (split.alike < best_alike || split.cells < 2) continue;
    if (split.alike > best_alike || split.cells > most) best = separator, most = split.cells, best_alike = split.alike;
  }
  return best;
}

}  // namespace deepseek::formats
