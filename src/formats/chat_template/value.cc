#include "formats/chat_template/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace deepseek::formats::jinja {
namespace {

constexpr int kMaxDepth = 100;  // a list may hold itself

thread_local int64_t* budget = nullptr;

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == std::floor(value) && std::abs(value) < 1e16) return fmt::format("{:.1f}", value);
  return fmt::format("{}", value);
}

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 32 || c == 127) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string representation(const Value& value, int depth) {
  if (depth > kMaxDepth) throw Trouble("a value is nested too deeply");
  spend(4);
  if (value.is_string()) return quoted(value.string());
  if (value.is_list()) {
    std::string out = "[";
    for (const auto& element : value.list()) {
      out += (out.size() > 1 ? ", " : "") + representation(element, depth + 1);
      check_text(out.size());
    }
    return out + "]";
  }
  if (value.is_dict()) {
    std::string out = "{";
    for (const auto& [key, element] : value.dict()) {
      out += (out.size() > 1 ? ", " : "") + quoted(key) + ": " + representation(element, depth + 1);
      check_text(out.size());
    }
    return out + "}";
  }
  return value.is_undefined() ? "Undefined" : value.text();
}

std::string json_string(const std::string& text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

void write_json(const Value& value, int64_t indent, bool sort_keys, int depth, std::string& out) {
  if (depth > kMaxDepth) throw Trouble("a value is nested too deeply");
  check_text(out.size());
  spend(4);
  const auto line = [&](int level) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * level), ' ');
  };
  if (value.is_none()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.truth() ? "true" : "false";
  } else if (value.is_string()) {
    out += json_string(value.string());
  } else if (value.is_number()) {
    out += value.text();
  } else if (value.is_list()) {
    if (value.list().empty()) {
      out += "[]";
      return;
    }
    out += "[";
    for (size_t i = 0; i < value.list().size(); ++i) {
      if (i > 0) out += indent >= 0 ? "," : ", ";
      line(depth + 1);
      write_json(value.list()[i], indent, sort_keys, depth + 1, out);
    }
    line(depth);
    out += "]";
  } else if (value.is_dict()) {
    Dict entries = value.dict();
    if (entries.empty()) {
      out += "{}";
      return;
    }
    if (sort_keys) std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    out += "{";
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out += indent >= 0 ? "," : ", ";
      line(depth + 1);
      out += json_string(entries[i].first) + ": ";
      write_json(entries[i].second, indent, sort_keys, depth + 1, out);
    }
    line(depth);
    out += "}";
  } else {
    throw Trouble(fmt::format("{} cannot be written as JSON", value.kind()));
  }
}

// Compares values that may share or hold one another.
class Comparison {
 public:
  bool equal(const Value& a, const Value& b, int depth = 0) {
    enter(depth);
    if (a.is_number() && b.is_number()) return a.number() == b.number();
    if (a.is_string() && b.is_string()) return a.string() == b.string();
    if (a.is_list() && b.is_list()) {
      const List &x = a.list(), &y = b.list();
      return &x == &y || (x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), [&](const Value& m, const Value& n) { return equal(m, n, depth + 1); }));
    }
    if (a.is_dict() && b.is_dict()) return &a.dict() == &b.dict() || equal_dicts(a.dict(), b.dict(), depth);
    return (a.is_undefined() && b.is_undefined()) || (a.is_none() && b.is_none());
  }

  int order(const Value& a, const Value& b, int depth = 0) {
    enter(depth);
    if (a.is_number() && b.is_number()) return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
    if (a.is_string() && b.is_string()) return a.string().compare(b.string());
    if (!a.is_list() || !b.is_list()) throw Trouble(fmt::format("{} and {} cannot be compared", a.kind(), b.kind()));
    const List &x = a.list(), &y = b.list();
    if (&x == &y) return 0;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (const int result = order(x[i], y[i], depth + 1); result != 0) return result;
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }

 private:
  bool equal_dicts(Dict& x, Dict& y, int depth) {
    if (x.size() != y.size()) return false;
    return std::all_of(x.begin(), x.end(), [&](const auto& entry) {
      spend(y.size() / 4);
      const Value* found = find(y, entry.first);
      return found != nullptr && equal(entry.second, *found, depth + 1);
    });
  }
  static void enter(int depth) {
    if (depth > kMaxDepth) throw Trouble("a value is nested too deeply");
    spend(1);
  }
};

}  // namespace

Budget::Budget(int64_t ticks) : before_(budget), left_(ticks) { budget = &left_; }
Budget::~Budget() { budget = before_; }

void spend(size_t ticks) {
  if (budget != nullptr && (*budget -= static_cast<int64_t>(ticks)) < 0) throw Trouble("the template takes too long");
}

void check_text(size_t size) {
  if (size > kMaxText) throw Trouble("a text is too long");
}

void check_list(size_t size) {
  if (size > kMaxList) throw Trouble("a list is too long");
}

bool Value::is_last_owner() const {
  if (const auto* list = std::get_if<std::shared_ptr<List>>(&data_)) return list->use_count() == 1;
  const auto* dict = std::get_if<std::shared_ptr<Dict>>(&data_);
  return dict != nullptr && dict->use_count() == 1;
}

// A list in a list in a list, however deep, goes without recursion.
void Value::release() {
  std::vector<Data> waiting;
  const auto take = [&](Value& value) {
    if (value.is_last_owner()) waiting.push_back(std::move(value.data_));
  };
  take(*this);
  while (!waiting.empty()) {
    const Data now = std::move(waiting.back());
    waiting.pop_back();
    if (const auto* list = std::get_if<std::shared_ptr<List>>(&now)) {
      std::for_each((*list)->begin(), (*list)->end(), take);
    } else if (const auto* dict = std::get_if<std::shared_ptr<Dict>>(&now)) {
      for (auto& entry : **dict) take(entry.second);
    }
  }
}

const std::string& Value::string() const {
  if (!is_string()) throw Trouble(fmt::format("{} stands where text is needed", kind()));
  return std::get<std::string>(data_);
}

List& Value::list() const {
  if (!is_list()) throw Trouble(fmt::format("{} stands where a list is needed", kind()));
  return *std::get<std::shared_ptr<List>>(data_);
}

Dict& Value::dict() const {
  if (!is_dict()) throw Trouble(fmt::format("{} stands where a mapping is needed", kind()));
  return *std::get<std::shared_ptr<Dict>>(data_);
}

int64_t Value::integer() const {
  if (is_bool()) return std::get<bool>(data_) ? 1 : 0;
  if (!is_int()) throw Trouble(fmt::format("{} stands where a whole number is needed", kind()));
  return std::get<int64_t>(data_);
}

double Value::number() const {
  if (is<double>()) return std::get<double>(data_);
  if (!is_number()) throw Trouble(fmt::format("{} stands where a number is needed", kind()));
  return static_cast<double>(integer());
}

const Function& Value::function() const {
  if (is_undefined()) throw Trouble(fmt::format("'{}' is undefined", undefined_name()));
  if (!is_function()) throw Trouble(fmt::format("{} cannot be called", kind()));
  return *std::get<std::shared_ptr<Function>>(data_);
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_dict()) return !dict().empty();
  return true;
}

const char* Value::kind() const {
  constexpr const char* kNames[] = {"an undefined value", "None", "a truth value", "a whole number", "a number", "text", "a list", "a mapping", "a function"};
  return kNames[data_.index()];
}

std::string Value::text() const {
  if (is_undefined()) return "";
  if (is_none()) return "None";
  if (is_bool()) return truth() ? "True" : "False";
  if (is_int()) return std::to_string(integer());
  if (is<double>()) return python_float(number());
  if (is_string()) return string();
  if (is_function()) return "<function>";
  return representation(*this, 0);
}

std::string Value::repr() const { return representation(*this, 0); }

bool Value::equals(const Value& other) const { return Comparison().equal(*this, other); }
int Value::compare(const Value& other) const { return Comparison().order(*this, other); }

List Value::elements() const {
  if (is_list()) {
    spend(list().size() / 2);
    return list();
  }
  List out;
  if (is_dict()) {
    for (const auto& [key, value] : dict()) out.emplace_back(key);
  } else if (is_string()) {
    for (auto& character : characters(string())) out.emplace_back(std::move(character));
  } else if (!is_undefined()) {
    throw Trouble(fmt::format("{} cannot be gone through", kind()));
  }
  return out;
}

Value* find(Dict& dict, const std::string& key) {
  const auto found = std::find_if(dict.begin(), dict.end(), [&](const auto& entry) { return entry.first == key; });
  return found == dict.end() ? nullptr : &found->second;
}

void set(Dict& dict, const std::string& key, Value value) {
  if (Value* found = find(dict, key)) {
    *found = std::move(value);
  } else {
    dict.emplace_back(key, std::move(value));
  }
}

Value from_json(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::json::value_t::boolean: return json.get<bool>();
    case nlohmann::json::value_t::number_integer:
    case nlohmann::json::value_t::number_unsigned: return json.get<int64_t>();
    case nlohmann::json::value_t::number_float: return json.get<double>();
    case nlohmann::json::value_t::string: return json.get<std::string>();
    case nlohmann::json::value_t::array: {
      List list;
      for (const auto& element : json) list.push_back(from_json(element));
      return list;
    }
    case nlohmann::json::value_t::object: {
      Dict dict;
      for (const auto& [key, element] : json.items()) dict.emplace_back(key, from_json(element));
      return dict;
    }
    default: return {};
  }
}

std::string to_json(const Value& value, int64_t indent, bool sort_keys) {
  std::string out;
  write_json(value, std::min<int64_t>(indent, 64), sort_keys, 0, out);
  return out;
}

size_t find_text(const std::string& text, const std::string& what, size_t at) {
  if (at > text.size()) return std::string::npos;
  spend(1);
  const void* found = ::memmem(text.data() + at, text.size() - at, what.data(), what.size());
  return found == nullptr ? std::string::npos : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t count_characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> characters(const std::string& text) {
  check_list(count_characters(text));
  spend(2 * text.size());
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

}  // namespace deepseek::formats::jinja
