// Filters and tests of templates, by name.
#include "formats/chat_template/functions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <map>
#include <set>

#include "formats/chat_template/evaluator.h"

namespace deepseek::formats::jinja {
namespace {

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

List sorted(const List& list, const Arguments& a) {
  const bool reverse = argument(a, 0, "reverse", false).truth(), exact = argument(a, 1, "case_sensitive", false).truth();
  const Value attribute = argument(a, 2, "attribute");
  std::list<std::pair<Value, Value>> keyed;  // its sort is stable, and safe where NaN has no place in the order
  for (const auto& item : list) {
    Value key = attribute.is_none() ? item : attribute_of(item, attribute.text());
    if (!exact && key.is_string()) key = call_method(key, "lower", {});
    keyed.emplace_back(std::move(key), item);
    spend(8);
  }
  keyed.sort([&](const auto& x, const auto& y) { return reverse ? y.first.compare(x.first) < 0 : x.first.compare(y.first) < 0; });
  List out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
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
    check_text(out.size());
    begin = false;
  }
  return out;
}

Value length_of(const Value& value) {
  if (value.is_list()) return value.list().size();
  if (value.is_dict()) return value.dict().size();
  if (value.is_undefined()) return 0;
  return count_characters(value.string());
}

int64_t whole(double value) {
  if (!(std::abs(value) < 9e18)) throw Trouble("a number is too large");
  return static_cast<int64_t>(value);
}

Value to_int(const Value& value, const Arguments& a) {
  if (value.is_bool() || value.is_int()) return value.integer();
  if (value.is_number()) return whole(value.number());
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
    for (const char* name : {"upper", "lower", "title", "capitalize"}) f[name] = [name](const Value& v, const Arguments& a) { return call_method(v.text(), name, a); };
    f["trim"] = [](const Value& v, const Arguments& a) { return call_method(v.text(), "strip", a); };
    f["replace"] = [](const Value& v, const Arguments& a) { return call_method(v.text(), "replace", a); };
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
      const Value attribute = argument(a, 1, "attribute");
      return joined(v.elements(), argument(a, 0, "d", "").text(), [&](const Value& item) { return (attribute.is_none() ? item : attribute_of(item, attribute.text())).text(); });
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
      std::set<std::string> seen;
      for (const auto& item : v.elements()) {
        if (item.is_list() || item.is_dict()) throw Trouble(fmt::format("unique cannot tell {} from another", item.kind()));
        const std::string key = item.is_number() ? fmt::format("n{}", item.number()) : item.is_string() ? "s" + call_method(item, "lower", {}).string() : item.repr();
        spend(16 + key.size() / 16);
        if (seen.insert(key).second) out.push_back(item);
      }
      return out;
    };
    f["sort"] = [](const Value& v, const Arguments& a) { return sorted(v.elements(), a); };
    f["items"] = [](const Value& v, const Arguments&) { return v.is_undefined() ? List{} : pairs_of(v); };
    f["dictsort"] = [](const Value& v, const Arguments& a) {
      const char* by = argument(a, 1, "by", "key").text() == "value" ? "1" : "0";
      return sorted(pairs_of(v), {{argument(a, 2, "reverse", false), argument(a, 0, "case_sensitive", false), by}, {}});
    };
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
    f["abs"] = [](const Value& v, const Arguments&) -> Value {
      if (!v.is_int()) return std::abs(v.number());
      if (v.integer() == std::numeric_limits<int64_t>::min()) throw Trouble("a number is too large");
      return std::abs(v.integer());
    };
    f["round"] = [](const Value& v, const Arguments& a) { return rounded(v, a); };
    f["sum"] = [](const Value& v, const Arguments&) -> Value {
      double total = 0;
      bool all_whole = true;
      for (const auto& item : v.elements()) {
        total += item.number();
        all_whole = all_whole && item.is_int();
      }
      return all_whole ? Value(whole(total)) : Value(total);
    };
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
  spend(8);
  const auto found = filters().find(name);
  if (found == filters().end()) throw Trouble(fmt::format("the filter '{}' is not known", name));
  return found->second(value, arguments);
}

bool apply_test(const std::string& name, const Value& value, const Arguments& a) {
  spend(4);
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
    return by == -1 || value.integer() % by == 0;
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
  if (name == "lower") return value.text() == call_method(value.text(), "lower", {}).string();
  if (name == "upper") return value.text() == call_method(value.text(), "upper", {}).string();
  throw Trouble(fmt::format("the test '{}' is not known", name));
}

}  // namespace deepseek::formats::jinja
