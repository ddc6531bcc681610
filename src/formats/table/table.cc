#include "formats/table/table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "base/text.h"
#include "formats/table/cells.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;
using base::Status;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

Status check_text(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return fail("the file is empty");
  if (text.starts_with("\x1F\x8B")) return fail("the file is compressed by gzip; unpack it first");
  if (text.starts_with("PK\x03\x04")) return fail("this is a spreadsheet or a zip archive; save the table as CSV");
  if (text.starts_with("PAR1")) return fail("this is a Parquet file; save the table as CSV");
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) return fail("the file is UTF-16; save it as UTF-8");
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) return fail("byte {} is zero: this is no CSV text in UTF-8", zero);
  if (!base::is_utf8(text)) return fail("line {} is not UTF-8; save the file as UTF-8", base::line_of_ill_formed(text));
  return {};
}

// Whether digits beyond the range of double are too small for it rather than too large.
bool vanishes(std::string_view digits) {
  const size_t e = std::min(digits.find_first_of("eE"), digits.size());
  const std::string_view mantissa = digits.substr(0, e);
  const size_t point = std::min(mantissa.find('.'), mantissa.size()), first = mantissa.find_first_not_of("0.");
  if (first == std::string_view::npos) return true;
  std::string_view power = digits.substr(std::min(e + 1, digits.size()));
  const bool negative = power.starts_with('-');
  if (negative || power.starts_with('+')) power.remove_prefix(1);
  power.remove_prefix(std::min(power.find_first_not_of('0'), power.size()));
  if (power.size() > 15) return negative;
  int64_t exponent = 0;
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  return static_cast<int64_t>(point) - static_cast<int64_t>(first) + (negative ? -exponent : exponent) < 0;
}

class MissingValues {
 public:
  explicit MissingValues(const std::vector<std::string>& texts) : texts_(texts) {
    for (const auto& text : texts) begins_[text.empty() ? 0 : static_cast<unsigned char>(text[0])] = true;
  }
  bool contains(std::string_view text) const {
    return begins_[text.empty() ? 0 : static_cast<unsigned char>(text[0])] && std::find(texts_.begin(), texts_.end(), text) != texts_.end();
  }

 private:
  const std::vector<std::string>& texts_;
  std::array<bool, 256> begins_{};
};

// One column while its file is read: numbers until a value is none. What was read as numbers before is read again as text then.
class ColumnReader {
 public:
  /// `text`: numbers are read as text too; `commas`: a comma may stand for a decimal point, since it separates no columns.
  ColumnReader(std::string name, bool text, bool commas) : name_(std::move(name)), text_(text), commas_(commas && !text) {}

  void reserve(size_t rows) { values_.reserve(rows); }
  [[nodiscard]] bool must_read_again() const { return again_; }
  void read_again() { again_ = false; }

  void add(std::string_view value, bool in_place, const MissingValues& missing) {
    if (again_) return;
    if (missing.contains(value)) {
      values_.push_back(kMissing);
      return;
    }
    if (!text_) {
      if (const auto number = number_in(value)) return add_number(*number);
      text_ = true;
      if (numbers_ > 0) {
        values_.clear();
        infinite_ = 0;
        again_ = true;
        return;
      }
    }
    values_.push_back(code_of(value, in_place));
  }

  Column finish(std::vector<std::string>& notes) {
    Column column{.name = name_};
    codes_ = {};
    if (commas_ && take_decimal_commas()) notes.push_back(fmt::format("column '{}': its commas are read as decimal points", name_));
    if (infinite_ > 0) notes.push_back(fmt::format("column '{}': {} infinite values count as missing", name_, base::with_commas(infinite_)));
    std::vector<size_t> order(texts_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return texts_[a] < texts_[b]; });
    std::vector<double> place(texts_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      place[order[i]] = static_cast<double>(i);
      column.categories.emplace_back(texts_[order[i]]);
    }
    if (!texts_.empty()) {
      for (double& value : values_) value = std::isnan(value) ? value : place[static_cast<size_t>(value)];
    }
    column.values = std::move(values_);
    return column;
  }

 private:
  void add_number(double number) {
    ++numbers_;
    if (std::isinf(number)) ++infinite_;
    values_.push_back(std::isinf(number) ? kMissing : number);
  }

  // Where every text is a number once its comma is a point, as European spreadsheets write them.
  bool take_decimal_commas() {
    std::vector<double> numbers;
    for (const std::string_view text : texts_) {
      std::string pointed(text);
      const size_t comma = text.find(',');
      if (comma != std::string_view::npos) {
        if (text.find('.') != std::string_view::npos || comma + 1 == text.size()) return false;
        pointed[comma] = '.';  // a second one leaves no number
      }
      const auto number = number_in(pointed);
      if (!number || std::isinf(*number)) return false;
      numbers.push_back(*number);
    }
    if (numbers.empty()) return false;
    for (double& value : values_) value = std::isnan(value) ? value : numbers[static_cast<size_t>(value)];
    texts_.clear();
    return true;
  }

  double code_of(std::string_view value, bool in_place) {
    if (const auto found = codes_.find(value); found != codes_.end()) return found->second;
    if (!in_place) value = kept_.emplace_back(value);
    codes_.emplace(value, static_cast<uint32_t>(texts_.size()));
    texts_.push_back(value);
    return static_cast<double>(texts_.size() - 1);
  }

  std::string name_;
  bool text_, commas_, again_ = false;
  std::vector<double> values_;
  size_t numbers_ = 0, infinite_ = 0;
  std::unordered_map<std::string_view, uint32_t> codes_;
  std::vector<std::string_view> texts_;  // by code, in the file's text or in kept_
  std::deque<std::string> kept_;
};

class TableReader {
 public:
  TableReader(std::string_view text, const TableOptions& options)
      : text_(text), options_(options), missing_(options.missing),
        separator_(options.separator != 0 ? options.separator : separator_of(text, options.names.size(), options.max_columns)), rows_(text, separator_, options.max_columns) {}

  Result<Table> read() {
    if (Status ok = read_names(); !ok) return base::pass(ok);
    if (Status ok = make_columns(); !ok) return base::pass(ok);
    if (Status ok = read_rows(); !ok) return base::pass(ok);
    if (table_.rows == 0) return fail("there are no rows below the header");
    if (Status ok = read_again(); !ok) return base::pass(ok);
    for (auto& column : columns_) table_.columns.push_back(column.finish(table_.notes));
    return std::move(table_);
  }

 private:
  Status read_names() {
    auto more = rows_.next(cells_);
    if (!more) return base::pass(more);
    std::string scratch;
    std::vector<std::string> first;
    for (const Cell& cell : cells_) first.emplace_back(cell.meant(scratch));
    if (options_.names.empty()) {
      names_ = std::move(first);
      if (Status ok = check_header(); !ok) return ok;
    } else {
      names_ = options_.names;
      if (cells_.size() != names_.size()) return base::refuse("line {} has {} values, but {} names of columns are given", rows_.line(), cells_.size(), names_.size());
      first_is_data_ = first != names_;
    }
    for (size_t j = 0; j < names_.size(); ++j) {
      if (names_[j].empty()) names_[j] = fmt::format("column {}", j + 1);
    }
    return {};
  }

  // A header is seldom made of numbers; 0, 1, 2 ... are the names of columns that had none.
  Status check_header() {
    size_t numbers = 0, counted = 0, named = 0;
    for (const std::string& name : names_) {
      if (name.empty()) continue;
      numbers += number_in(name) ? 1 : 0;
      counted += name == std::to_string(named) ? 1 : 0;
      ++named;
    }
    std::string shown = fmt::format("{}", fmt::join(names_.begin(), names_.begin() + std::min<std::ptrdiff_t>(4, std::ssize(names_)), ", ")).substr(0, 60);
    if (names_.size() > 4) shown += ", ...";
    if (named > 0 && numbers == named && (counted < named || named < 2)) {
      return fail("the first row, {}, holds numbers where the names of the columns belong; give the names apart (--columns) if the file has no header", base::to_valid_utf8(shown));
    }
    if (numbers > 0) table_.notes.push_back(fmt::format("some columns are named by numbers: {}; if the file has no header, give the names apart (--columns)", base::to_valid_utf8(shown)));
    return {};
  }

  Status make_columns() {
    std::unordered_map<std::string_view, size_t> place;
    for (size_t j = 0; j < names_.size(); ++j) {
      const auto [other, is_new] = place.emplace(names_[j], j);
      if (!is_new) return fail("columns {} and {} are both named '{}'; rename one", other->second + 1, j + 1, names_[j]);
    }
    for (const std::string& name : options_.categorical) {
      if (place.contains(name)) continue;
      return base::refuse("there is no column '{}' to read as text{}", name, base::is_meant(name, names_));
    }
    const size_t lines = 1 + static_cast<size_t>(std::count(text_.begin(), text_.end(), '\n'));
    for (const std::string& name : names_) {
      columns_.emplace_back(name, std::find(options_.categorical.begin(), options_.categorical.end(), name) != options_.categorical.end(), separator_ != ',');
      columns_.back().reserve(std::min(lines, 1 + text_.size() / names_.size()));  // a value and what ends it have a byte at least
    }
    return {};
  }

  Status read_rows() {
    if (first_is_data_) add_row();
    for (;;) {
      auto more = rows_.next(cells_);
      if (!more) return base::pass(more);
      if (!*more) return {};
      if (cells_.size() != names_.size()) {
        return fail("line {} has {} values, the {} {}", rows_.line(), cells_.size(), options_.names.empty() ? "header" : "first row", names_.size());
      }
      if (table_.rows == options_.max_rows) return fail("there are more than {} rows", options_.max_rows);
      add_row();
    }
  }

  void add_row() {
    ++table_.rows;
    for (size_t j = 0; j < cells_.size(); ++j) columns_[j].add(cells_[j].meant(scratch_), !cells_[j].doubled, missing_);
  }

  // Text columns that began like numbers.
  Status read_again() {
    std::vector<size_t> again;
    for (size_t j = 0; j < columns_.size(); ++j) {
      if (columns_[j].must_read_again()) again.push_back(j), columns_[j].read_again();
    }
    if (again.empty()) return {};
    RowReader rows(text_, separator_, options_.max_columns);
    for (bool skip = !first_is_data_;; skip = false) {
      auto more = rows.next(cells_);
      if (!more) return base::pass(more);
      if (!*more) return {};
      for (const size_t j : again) {
        if (!skip) columns_[j].add(cells_[j].meant(scratch_), !cells_[j].doubled, missing_);
      }
    }
  }

  std::string_view text_;
  const TableOptions& options_;
  MissingValues missing_;
  char separator_;
  RowReader rows_;
  std::vector<Cell> cells_;
  std::string scratch_;
  std::vector<std::string> names_;
  bool first_is_data_ = false;
  std::vector<ColumnReader> columns_;
  Table table_;
};

}  // namespace

const Column* Table::find(std::string_view name) const {
  const auto found = std::find_if(columns.begin(), columns.end(), [&](const Column& column) { return column.name == name; });
  return found == columns.end() ? nullptr : &*found;
}

std::optional<double> number_in(std::string_view text) {
  const bool negative = text.starts_with('-');
  std::string_view digits = negative || text.starts_with('+') ? text.substr(1) : text;
  if (digits.empty()) return std::nullopt;
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (digits[0] != '.' && (digits[0] < '0' || digits[0] > '9')) {
    std::string word(digits.substr(0, 9));
    for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (word != "inf" && word != "infinity") return std::nullopt;
    return negative ? -kInfinite : kInfinite;
  }
  double number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error == std::errc::invalid_argument || end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) number = vanishes(digits) ? 0 : kInfinite;
  return negative ? -number : number;
}

Result<Table> read_table(const base::fs::path& path, const TableOptions& options) {
  std::error_code error;
  if (!base::fs::exists(path, error)) return fail("the table {} does not exist", path.string());
  if (base::fs::is_directory(path, error)) return fail("the table {} is a directory; name a CSV file", path.string());
  auto text = base::read_file(path, options.max_bytes);
  if (!text) return base::pass(text);
  return parse_table(*text, path.string(), options);
}

Result<Table> parse_table(std::string_view text, const std::string& name, const TableOptions& options) {
  if (text.size() > options.max_bytes) return fail("{}: a table has at most {}", name, base::human_bytes(options.max_bytes));
  if (options.separator == '"' || options.separator == '\n' || options.separator == '\r') return base::refuse("a quote or a line end cannot separate columns");
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (Status ok = check_text(text); !ok) return base::within(name, ok.error());
  auto table = TableReader(text, options).read();
  if (!table) return base::within(name, table.error());
  return table;
}

}  // namespace deepseek::formats
