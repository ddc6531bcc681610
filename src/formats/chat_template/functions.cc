// Filters, tests and methods of templates, by name.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/chat_template/evaluator.h"

namespace deepseek::formats::jinja {
namespace {

constexpr const char* kBlanks = " \t\n\r\f\v";

Value argument(const Arguments& arguments, size_t index, const char* name, Value fallback = {}) {
  if (index < arguments.positional.size()) return arguments.positional[index];
  for (const auto& [key, value] : arguments.named) {
    if (key == name) return value;
  }
  return fallback;
}

std::string stripped(const std::string& text, const std::string& what, bool left, bool right) {
  const size_t begin = left ? text.find_first_not_of(what) : 0;
  if (begin == std::string::npos) return "";
  const size_t end = right ? text.find_last_not_of(what) : text.size() - 1;
  return end == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

template <typename Map>
std::string mapped(std::string text, Map map) {
  std::transform(text.begin(), text.end(), text.begin(), [&](char c) { return static_cast<unsigned char>(c) < 128 ? static_cast<char>(map(c)) : c; });
  return text;
}

std::string title(std::string text) {
  bool inside = false;
  for (char& c : text) {
    const bool letter = std::isalpha(static_cast<unsigned char>(c)) != 0 || static_cast<unsigned char>(c) >= 128;
    if (letter && static_cast<unsigned char>(c) < 128) c = static_cast<char>(inside ? std::tolower(c) : std::toupper(c));
    inside = letter;
  }
  return text;
}

std::string capitalized(const std::string& text) {
  std::string out = mapped(text, [](int c) { return std::tolower(c); });
  if (!out.empty() && static_cast<unsigned char>(out[0]) < 128) out[0] = static_cast<char>(std::toupper(out[0]));
  return out;
}

std::string replaced(const std::string& text, const std::string& what, const std::string& by, int64_t count) {
  std::string out;
  size_t at = 0;
  if (what.empty()) return text;
  while (count != 0) {
    const size_t found = find_text(text, what, at);
    if (found == std::string::npos) break;
    out.append(text, at, found - at);
    out += by;
    at = found + what.size();
    --count;
    check_text(out.size());
  }
  return out + text.substr(at);
}

List split(const std::string& text, const Value& separator, int64_t most) {
  List out;
  if (separator.is_none() || separator.is_undefined()) {
    size_t at = text.find_first_not_of(kBlanks);
    while (at != std::string::npos) {
      const size_t end = most == 0 ? std::string::npos : text.find_first_of(kBlanks, at);
      out.emplace_back(most == 0 ? stripped(text.substr(at), kBlanks, false, true) : text.substr(at, end - at));
      if (most > 0) --most;
      at = end == std::string::npos ? end : text.find_first_not_of(kBlanks, end);
      check_list(out.size());
    }
    return out;
  }
  const std::string& by = separator.string();
  if (by.empty()) throw Trouble("the separator of split is empty");
  size_t at = 0;
  for (size_t found = 0; most != 0 && (found = find_text(text, by, at)) != std::string::npos; at = found + by.size(), --most) {
    out.emplace_back(text.substr(at, found - at));
    check_list(out.size());
  }
  out.emplace_back(text.substr(at));
  return out;
}

bool begins_or_ends(const std::string& text, const Value& with, bool begins) {
  const auto one = [&](const std::string& part) { return begins ? text.starts_with(part) : text.ends_with(part); };
  if (!with.is_list()) return one(with.string());
  return std::any_of(with.list().begin(), with.list().end(), [&](const Value& part) { return one(part.string()); });
}

List pairs_of(const Value& value) {
  List out;
  for (const auto& [key, element] : value.dict()) out.emplace_back(List{key, element});
  return out;
}

Value string_method(const std::string& text, const std::string& name, const Arguments& a) {
  const auto chars = [&] {
    const Value given = argument(a, 0, "chars");
    return given.is_none() ? std::string(kBlanks) : given.string();
  };
  if (name == "strip") return stripped(text, chars(), true, true);
  if (name == "lstrip") return stripped(text, chars(), true, false);
  if (name == "rstrip") return stripped(text, chars(), false, true);
  if (name == "split") return split(text, argument(a, 0, "sep"), argument(a, 1, "maxsplit", -1).integer());
  if (name == "splitlines") {
    List lines = split(text, "\n", -1);
    if (!lines.empty() && lines.back().string().empty()) lines.pop_back();
    return lines;
  }
  if (name == "startswith") return begins_or_ends(text, argument(a, 0, "prefix"), true);
  if (name == "endswith") return begins_or_ends(text, argument(a, 0, "suffix"), false);
  if (name == "replace") return replaced(text, argument(a, 0, "old").string(), argument(a, 1, "new").string(), argument(a, 2, "count", -1).integer());
  if (name == "upper") return mapped(text, [](int c) { return std::toupper(c); });
  if (name == "lower") return mapped(text, [](int c) { return std::tolower(c); });
  if (name == "title") return title(text);
  if (name == "capitalize") return capitalized(text);
  if (name == "isdigit") return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (name == "find") {
    const size_t found = find_text(text, argument(a, 0, "sub").string());
    return found == std::string::npos ? Value(-1) : Value(characters(text.substr(0, found)).size());
  }
  if (name == "count") {
    const std::string what = argument(a, 0, "sub").string();
    int64_t count = 0;
    for (size_t at = find_text(text, what); !what.empty() && at != std::string::npos; at = find_text(text, what, at + what.size())) ++count;
    return count;
  }
  if (name == "join") {
    std::string out;
    for (const auto& element : argument(a, 0, "iterable").elements()) out += (out.empty() ? "" : text) + element.string();
    return out;
  }
  throw Trouble(fmt::format("text has no method '{}'", name));
}

Value dict_method(const Value& object, const std::string& name, const Arguments& a) {
  if (name == "items") return pairs_of(object);
  if (name == "keys") return object.elements();
  if (name == "values") {
    List out;
    for (const auto& [key, value] : object.dict()) out.push_back(value);
    return out;
  }
  if (name == "get") {
    const Value key = argument(a, 0, "key");
    const Value* found = key.is_string() ? find(object.dict(), key.string()) : nullptr;
    return found != nullptr ? *found : argument(a, 1, "default");
  }
  if (name == "copy") return object.dict();
  if (name == "update" || name == "pop" || name == "setdefault" || name == "clear") throw Trouble(fmt::format("'{}' would change a value, which templates may not", name));
  throw Trouble(fmt::format("a mapping has no method '{}'", name));
}

// Attribute paths of map, selectattr, sort: "a.b".
Value attribute_of(const Value& value, const std::string& path) {
  Value now = value;
  for (const auto& part : split(path, ".", -1)) {
    if (now.is_undefined()) return now;
    now = member(now, part.string());
  }
  return now;
}

List selected(const Value& value, const Arguments& a, bool by_attribute, bool keep) {
  List out;
  for (const auto& item : value.elements()) {
    const size_t shift = by_attribute ? 1 : 0;
    const Value subject = by_attribute ? attribute_of(item, argument(a, 0, "attribute").string()) : item;
    bool holds = subject.truth();
    if (a.positional.size() > shift) {
      Arguments rest{{a.positional.begin() + static_cast<long>(shift) + 1, a.positional.end()}, {}};
      holds = apply_test(a.positional[shift].string(), subject, rest);
    }
    if (holds == keep) out.push_back(item);
  }
  return out;
}

List map_filter(const Value& value, const Arguments& a) {
  List out;
  const Value attribute = argument(a, 99, "attribute"), fallback = argument(a, 99, "default", Value(Undefined{"attribute"}));
  for (const auto& item : value.elements()) {
    if (!attribute.is_none()) {
      Value found = attribute_of(item, attribute.text());
      out.push_back(found.is_undefined() ? fallback : found);
    } else {
      Arguments rest{{a.positional.begin() + std::min<long>(1, static_cast<long>(a.positional.size())), a.positional.end()}, a.named};
      out.push_back(apply_filter(argument(a, 0, "filter").string(), item, rest));
    }
  }
  return out;
}

List sorted(List list, const Arguments& a) {
  const bool reverse = argument(a, 0, "reverse", false).truth(), exact = argument(a, 1, "case_sensitive", false).truth();
  const Value attribute = argument(a, 2, "attribute");
  const auto key = [&](const Value& value) {
    Value out = attribute.is_none() ? value : attribute_of(value, attribute.text());
    return !exact && out.is_string() ? string_method(out.string(), "lower", {}) : out;
  };
  std::stable_sort(list.begin(), list.end(), [&](const Value& x, const Value& y) { return reverse ? key(y).compare(key(x)) < 0 : key(x).compare(key(y)) < 0; });
  return list;
}

std::string indented(const std::string& text, const Arguments& a) {
  const Value width = argument(a, 0, "width", 4);
  const std::string prefix = width.is_string() ? width.string() : std::string(static_cast<size_t>(std::clamp<int64_t>(width.integer(), 0, 1000)), ' ');
  const bool first = argument(a, 1, "first", false).truth(), blank = argument(a, 2, "blank", false).truth();
  std::string out;
  bool begin = true;
  for (const auto& line : split(text, "\n", -1)) {
    const std::string& content = line.string();
    if (!begin) out += "\n";
    if ((begin && first) || (!begin && (blank || !content.empty()))) out += prefix;
    out += content;
    begin = false;
  }
  return out;
}

Value length_of(const Value& value) {
  if (value.is_list()) return value.list().size();
  if (value.is_dict()) return value.dict().size();
  if (value.is_undefined()) return 0;
  return characters(value.string()).size();
}

Value to_int(const Value& value, const Arguments& a) {
  if (value.is_number()) return static_cast<int64_t>(value.number());
  try {
    size_t used = 0;
    const std::string text = stripped(value.text(), kBlanks, true, true);
    const double number = std::stod(text, &used);
    if (used == text.size() && std::abs(number) < 9e18) return static_cast<int64_t>(number);
  } catch (const std::exception&) {
  }
  return argument(a, 0, "default", 0);
}

Value rounded(const Value& value, const Arguments& a) {
  const double factor = std::pow(10.0, static_cast<double>(argument(a, 0, "precision", 0).integer()));
  const std::string method = argument(a, 1, "method", "common").string();
  const double scaled = value.number() * factor;
  return (method == "ceil" ? std::ceil(scaled) : method == "floor" ? std::floor(scaled) : std::nearbyint(scaled)) / factor;
}

using Filter = std::function<Value(const Value&, const Arguments&)>;

const std::map<std::string, Filter>& filters() {
  static const std::map<std::string, Filter> kFilters = [] {
    std::map<std::string, Filter> f;
    for (const char* name : {"upper", "lower", "title", "capitalize"}) f[name] = [name](const Value& v, const Arguments& a) { return string_method(v.text(), name, a); };
    f["trim"] = [](const Value& v, const Arguments& a) { return string_method(v.text(), "strip", a); };
    f["replace"] = [](const Value& v, const Arguments& a) { return string_method(v.text(), "replace", a); };
    f["string"] = [](const Value& v, const Arguments&) { return v.text(); };
    f["safe"] = f["string"];
    f["e"] = f["escape"] = [](const Value& v, const Arguments&) {
      std::string out = replaced(v.text(), "&", "&amp;", -1);
      for (const auto& [what, by] : {std::pair{"<", "&lt;"}, {">", "&gt;"}, {"\"", "&#34;"}, {"'", "&#39;"}}) out = replaced(out, what, by, -1);
      return out;
    };
    f["tojson"] = [](const Value& v, const Arguments& a) {
      const Value indent = argument(a, 1, "indent");
      return to_json(v, indent.is_none() ? -1 : indent.integer(), argument(a, 99, "sort_keys", false).truth());
    };
    f["length"] = f["count"] = [](const Value& v, const Arguments&) { return length_of(v); };
    f["join"] = [](const Value& v, const Arguments& a) {
      const std::string by = argument(a, 0, "d", "").text();
      const Value attribute = argument(a, 1, "attribute");
      std::string out;
      bool first = true;
      for (const auto& item : v.elements()) {
        if (!first) out += by;
        first = false;
        out += (attribute.is_none() ? item : attribute_of(item, attribute.text())).text();
      }
      return out;
    };
    f["default"] = f["d"] = [](const Value& v, const Arguments& a) {
      const bool use = v.is_undefined() || (argument(a, 1, "boolean", false).truth() && !v.truth());
      return use ? argument(a, 0, "default_value", "") : v;
    };
    f["first"] = [](const Value& v, const Arguments&) -> Value {
      List list = v.elements();
      return list.empty() ? Value(Undefined{"first"}) : list.front();
    };
    f["last"] = [](const Value& v, const Arguments&) -> Value {
      List list = v.elements();
      return list.empty() ? Value(Undefined{"last"}) : list.back();
    };
    f["list"] = [](const Value& v, const Arguments&) { return v.elements(); };
    f["reverse"] = [](const Value& v, const Arguments&) -> Value {
      List list = v.elements();
      std::reverse(list.begin(), list.end());
      if (!v.is_string()) return list;
      std::string out;
      for (const auto& character : list) out += character.string();
      return out;
    };
    f["unique"] = [](const Value& v, const Arguments&) {
      List out;
      for (const auto& item : v.elements()) {
        if (std::none_of(out.begin(), out.end(), [&](const Value& other) { return other.equals(item); })) out.push_back(item);
      }
      return out;
    };
    f["sort"] = [](const Value& v, const Arguments& a) { return sorted(v.elements(), a); };
    f["items"] = [](const Value& v, const Arguments&) { return v.is_undefined() ? List{} : pairs_of(v); };
    f["dictsort"] = [](const Value& v, const Arguments&) { return sorted(pairs_of(v), {}); };
    f["map"] = [](const Value& v, const Arguments& a) { return map_filter(v, a); };
    f["selectattr"] = [](const Value& v, const Arguments& a) { return selected(v, a, true, true); };
    f["rejectattr"] = [](const Value& v, const Arguments& a) { return selected(v, a, true, false); };
    f["select"] = [](const Value& v, const Arguments& a) { return selected(v, a, false, true); };
    f["reject"] = [](const Value& v, const Arguments& a) { return selected(v, a, false, false); };
    f["int"] = [](const Value& v, const Arguments& a) { return to_int(v, a); };
    f["float"] = [](const Value& v, const Arguments& a) -> Value {
      if (v.is_number()) return v.number();
      try {
        return std::stod(v.text());
      } catch (const std::exception&) {
        return argument(a, 0, "default", 0.0);
      }
    };
    f["abs"] = [](const Value& v, const Arguments&) -> Value { return v.is_int() ? Value(std::abs(v.integer())) : Value(std::abs(v.number())); };
    f["round"] = [](const Value& v, const Arguments& a) { return rounded(v, a); };
    f["sum"] = [](const Value& v, const Arguments&) -> Value {
      double total = 0;
      bool whole = true;
      for (const auto& item : v.elements()) {
        total += item.number();
        whole = whole && item.is_int();
      }
      return whole ? Value(static_cast<int64_t>(total)) : Value(total);
    };
    f["min"] = f["max"] = nullptr;
    f["min"] = [](const Value& v, const Arguments&) -> Value {
      const List list = v.elements();
      return list.empty() ? Value(Undefined{"min"}) : *std::min_element(list.begin(), list.end(), [](const Value& x, const Value& y) { return x.compare(y) < 0; });
    };
    f["max"] = [](const Value& v, const Arguments&) -> Value {
      const List list = v.elements();
      return list.empty() ? Value(Undefined{"max"}) : *std::max_element(list.begin(), list.end(), [](const Value& x, const Value& y) { return x.compare(y) < 0; });
    };
    f["indent"] = [](const Value& v, const Arguments& a) { return indented(v.text(), a); };
    return f;
  }();
  return kFilters;
}

}  // namespace

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) throw Trouble(fmt::format("the filter '{}' is not known", name));
  return found->second(value, arguments);
}

bool apply_test(const std::string& name, const Value& value, const Arguments& a) {
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.is_string();
  if (name == "mapping") return value.is_dict();
  if (name == "sequence" || name == "iterable") return value.is_list() || value.is_string() || value.is_dict() || value.is_undefined();
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is_int();
  if (name == "float") return value.is<double>();
  if (name == "boolean") return value.is_bool();
  if (name == "true") return value.is_bool() && value.truth();
  if (name == "false") return value.is_bool() && !value.truth();
  if (name == "callable") return value.is_function();
  if (name == "odd") return value.integer() % 2 != 0;
  if (name == "even") return value.integer() % 2 == 0;
  if (name == "divisibleby") {
    const int64_t by = argument(a, 0, "num").integer();
    if (by == 0) throw Trouble("division by zero");
    return value.integer() % by == 0;
  }
  if (name == "equalto" || name == "eq" || name == "==" || name == "sameas") return value.equals(argument(a, 0, "other"));
  if (name == "ne" || name == "!=") return !value.equals(argument(a, 0, "other"));
  if (name == "in") {
    const List list = argument(a, 0, "seq").elements();
    return std::any_of(list.begin(), list.end(), [&](const Value& other) { return other.equals(value); });
  }
  if (name == "lt" || name == "<") return value.compare(argument(a, 0, "other")) < 0;
  if (name == "gt" || name == ">") return value.compare(argument(a, 0, "other")) > 0;
  if (name == "le" || name == "<=") return value.compare(argument(a, 0, "other")) <= 0;
  if (name == "ge" || name == ">=") return value.compare(argument(a, 0, "other")) >= 0;
  if (name == "lower") return value.text() == string_method(value.text(), "lower", {}).string();
  if (name == "upper") return value.text() == string_method(value.text(), "upper", {}).string();
  throw Trouble(fmt::format("the test '{}' is not known", name));
}

Value call_method(const Value& object, const std::string& name, const Arguments& arguments) {
  if (object.is_string()) return string_method(object.string(), name, arguments);
  if (object.is_dict()) return dict_method(object, name, arguments);
  if (object.is_list()) {
    if (name == "index") {
      const auto& list = object.list();
      const Value what = argument(arguments, 0, "value");
      const auto found = std::find_if(list.begin(), list.end(), [&](const Value& element) { return element.equals(what); });
      if (found == list.end()) throw Trouble("the value is not in the list");
      return static_cast<int64_t>(found - list.begin());
    }
    if (name == "count") {
      const Value what = argument(arguments, 0, "value");
      return static_cast<int64_t>(std::count_if(object.list().begin(), object.list().end(), [&](const Value& element) { return element.equals(what); }));
    }
    throw Trouble(fmt::format("a list has no method '{}' that templates may call", name));
  }
  throw Trouble(fmt::format("{} has no method '{}'", object.kind(), name));
}

Value member(const Value& object, const std::string& name) {
  if (object.is_dict()) {
    const Value* found = find(object.dict(), name);
    return found != nullptr ? *found : Value(Undefined{name});
  }
  if (object.is_list() && !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) return element(object, static_cast<int64_t>(std::stoll(name.substr(0, 15))));
  return Undefined{name};
}

Value element(const Value& object, const Value& index) {
  if (index.is_string()) return member(object, index.string());
  if (object.is_dict()) return Undefined{index.text()};
  if (!index.is_int() && !index.is_bool()) return Undefined{index.text()};
  int64_t at = index.integer();
  if (object.is_string()) {
    const auto all = characters(object.string());
    if (at < 0) at += static_cast<int64_t>(all.size());
    return at >= 0 && at < static_cast<int64_t>(all.size()) ? Value(all[static_cast<size_t>(at)]) : Value(Undefined{"an index outside the text"});
  }
  if (!object.is_list()) return Undefined{"an element of " + std::string(object.kind())};
  const auto size = static_cast<int64_t>(object.list().size());
  if (at < 0) at += size;
  return at >= 0 && at < size ? object.list()[static_cast<size_t>(at)] : Value(Undefined{"an index outside the list"});
}

}  // namespace deepseek::formats::jinja
