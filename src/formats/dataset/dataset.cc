#include "formats/dataset/dataset.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"
#include "formats/dataset/record.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;

constexpr size_t kMaxFile = size_t{2} << 30;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Where a record stands, for messages: row 3 of an array or of one of several, line 7 of a JSONL file.
struct Place {
  size_t row = 0, line = 0;
  std::string list;  // of several
  [[nodiscard]] std::string text() const {
    if (line > 0) return fmt::format("row {} (line {})", row, line);
    return list.empty() ? fmt::format("row {}", row) : fmt::format("row {} of '{}'", row, list);
  }
};

struct Rows {
  std::vector<Json> records;
  std::vector<Place> places;
  std::string container;
};

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end - begin + 1);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string split_of_name(const std::string& written) {
  const std::string name = lower(written);
  if (name == "valid" || name == "val" || name == "dev" || name == "eval" || name == "validation") return "validation";
  if (name == "train" || name == "training") return "train";
  return name == "test" ? "test" : "";
}

Result<Rows> rows_of_array(Json array, const std::string& container) {
  Rows out;
  out.container = container;
  for (auto& record : array) {
    out.places.push_back({out.places.size() + 1, 0, {}});
    out.records.push_back(std::move(record));
  }
  return out;
}

// The parser sees one line of the file and calls it line 1.
base::Error without_line(base::Error error) {
  constexpr std::string_view kLine = "at line 1, ";
  if (const size_t at = error.message.find(kLine); at != std::string::npos) error.message.replace(at, kLine.size(), "at ");
  return error;
}

Result<Rows> json_lines(std::string_view content) {
  Rows out;
  out.container = "JSON lines";
  size_t line = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    const std::string_view text = trimmed(content.substr(at, end - at));
    at = end + 1;
    ++line;
    if (text.empty()) continue;
    auto record = base::parse_large_json(text);
    if (!record) return base::within(fmt::format("line {}", line), without_line(record.error()));
    out.places.push_back({out.places.size() + 1, line, {}});
    out.records.push_back(std::move(*record));
  }
  return out;
}

// {"train": [...], "test": [...]}: each list is the split of its name.
Rows rows_of_splits(Json object) {
  Rows out;
  for (auto& [name, list] : object.items()) {
    if (split_of_name(name).empty() || !list.is_array()) continue;
    size_t row = 0;
    for (auto& record : list) {
      if (record.is_object() && !record.contains("split")) record["split"] = name;
      out.places.push_back({++row, 0, name});
      out.records.push_back(std::move(record));
    }
    out.container += (out.container.empty() ? "JSON arrays under '" : ", '") + name + "'";
  }
  return out;
}

// One object: a record of its own, or a wrapper whose lists hold the records.
Result<Rows> rows_of_object(Json object) {
  const auto is_split = [](const auto& item) { return !split_of_name(item.key()).empty() && item.value().is_array(); };
  size_t splits = 0;
  for (const auto& item : object.items()) splits += is_split(item) ? 1 : 0;
  if (splits > 1) return rows_of_splits(std::move(object));
  std::string name;
  for (const char* key : {"data", "examples", "rows", "records", "train", "instances"}) {
    if (object.contains(key) && object[key].is_array()) name = key;
  }
  if (!name.empty() && !recognise(object)) return rows_of_array(std::move(object[name]), fmt::format("JSON array under '{}'", name));
  return rows_of_array(Json::array({std::move(object)}), "one JSON object");
}

Result<Rows> rows_of(std::string_view content) {
  if (content.starts_with(kByteOrderMark)) content.remove_prefix(kByteOrderMark.size());
  const std::string_view whole = content;  // with its blank lines, which count
  content = trimmed(content);
  if (content.empty()) return fail("the file is empty");
  if (!base::is_utf8(content)) return fail("line {} is not UTF-8; save the file as UTF-8", base::line_of_ill_formed(whole));
  if (content.front() == '[') {
    auto json = base::parse_large_json(content);
    if (!json) return base::pass(json);
    return rows_of_array(std::move(*json), "JSON array");
  }
  if (content.front() != '{') return fail("this is neither JSON nor JSON lines: it begins with '{}'", base::to_valid_utf8(content.substr(0, 12)));
  // A first line that is whole is one of many; an object over several lines is not.
  const std::string_view first = trimmed(content.substr(0, content.find('\n')));
  if (first.size() == content.size()) {
    auto json = base::parse_large_json(content);
    if (!json) return base::pass(json);
    return rows_of_object(std::move(*json));
  }
  if (base::parse_large_json(first)) return json_lines(whole);
  auto json = base::parse_large_json(content);
  if (json) return rows_of_object(std::move(*json));
  return first.ends_with('}') ? json_lines(whole) : Result<Rows>(base::pass(json));
}

std::string split_named(const Json& record) {
  const auto found = record.find("split");
  if (found == record.end() || !found->is_string()) return "";
  return split_of_name(found->get<std::string>());
}

base::Status read_difficulty(const Json& record, const std::string& field, Example& example) {
  const auto found = record.find(field);
  if (found == record.end() || found->is_null()) return {};
  if (found->is_number()) {
    example.difficulty = found->get<double>();
    example.difficulty_label = found->dump();
    return {};
  }
  if (!found->is_string()) return fail("the difficulty in '{}' is neither a number nor a word", field);
  example.difficulty_label = found->get<std::string>();
  const std::string word = lower(example.difficulty_label);
  constexpr std::array<std::pair<const char*, double>, 7> kLevels{{{"very easy", 0}, {"easy", 1}, {"medium", 2}, {"normal", 2}, {"hard", 3}, {"very hard", 4}, {"expert", 4}}};
  for (const auto& [name, level] : kLevels) {
    if (word == name) example.difficulty = level;
  }
  if (!example.difficulty) return fail("the difficulty '{}' in '{}' is not known; use a number, or easy, medium, hard", example.difficulty_label, field);
  return {};
}

}  // namespace

const char* dataset_format_name(DatasetFormat format) {
  switch (format) {
    case DatasetFormat::kAlpaca: return "alpaca";
    case DatasetFormat::kShareGpt: return "sharegpt";
    case DatasetFormat::kOpenAi: return "OpenAI messages";
    case DatasetFormat::kQuestionAnswer: return "question/answer pairs";
    case DatasetFormat::kText: return "raw text";
  }
  return "?";
}

Result<Dataset> read_dataset(const base::fs::path& path, const DatasetOptions& options) {
  std::error_code error;
  if (!base::fs::exists(path, error)) return fail("the dataset {} does not exist", path.string());
  if (base::fs::is_directory(path, error)) return fail("the dataset {} is a directory; name a JSON or JSONL file", path.string());
  auto content = base::read_file(path, kMaxFile);
  if (!content) return base::pass(content);
  return parse_dataset(*content, path.string(), options);
}

Result<Dataset> parse_dataset(std::string_view content, const std::string& name, const DatasetOptions& options) {
  auto rows = rows_of(content);
  if (!rows) return base::within(name, rows.error());
  if (rows->records.empty()) return fail("{}: the dataset is empty", name);
  Dataset out;
  std::string fields;
  for (size_t i = 0; i < rows->records.size(); ++i) {
    const Json& record = rows->records[i];
    const auto wrong = [&](const std::string& what) { return fail("{}: {}: {}", name, rows->places[i].text(), what); };
    if (!record.is_object()) return wrong("a record is a JSON object, this one is not");
    auto shape = options.format ? shape_for(record, *options.format) : recognise(record);
    if (!shape) return wrong(unrecognised(record));
    if (i == 0) {
      out.format = shape->format;
      fields = shape->fields;
    } else if (shape->format != out.format) {
      return wrong(fmt::format("this is {}, the rows before are {}; one file holds one kind", dataset_format_name(shape->format), dataset_format_name(out.format)));
    }
    Example example;
    example.row = rows->places[i].row;
    try {
      if (auto done = fill(record, *shape, example); !done) return wrong(done.error().message);
      if (auto done = read_difficulty(record, options.difficulty_field, example); !done) return wrong(done.error().message);
    } catch (const nlohmann::json::exception& error) {
      return wrong(error.what());
    }
    example.split = split_named(record);
    out.examples.push_back(std::move(example));
  }
  out.description = fmt::format("{} ({}), {}, {} rows", dataset_format_name(out.format), fields, rows->container, base::with_commas(out.examples.size()));
  return out;
}

}  // namespace deepseek::formats
