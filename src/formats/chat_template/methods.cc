// Methods and members of values: text.strip(), mapping.items(), list[0].
#include <fmt/format.h>

#include <algorithm>

#include "formats/chat_template/evaluator.h"
#include "formats/chat_template/functions.h"

namespace deepseek::formats::jinja {
namespace {

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

bool begins_or_ends(const std::string& text, const Value& with, bool begins) {
  const auto one = [&](const std::string& part) { return begins ? text.starts_with(part) : text.ends_with(part); };
  if (!with.is_list()) return one(with.string());
  return std::any_of(with.list().begin(), with.list().end(), [&](const Value& part) { return one(part.string()); });
}

Value string_method(const std::string& text, const std::string& name, const Arguments& a) {
  spend(4 + text.size() / 4);
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
    return found == std::string::npos ? Value(-1) : Value(count_characters(text.substr(0, found)));
  }
  if (name == "count") {
    const std::string what = argument(a, 0, "sub").string();
    int64_t count = 0;
    for (size_t at = find_text(text, what); !what.empty() && at != std::string::npos; at = find_text(text, what, at + what.size())) ++count;
    return count;
  }
  if (name == "join") {
    return joined(argument(a, 0, "iterable").elements(), text, [](const Value& element) { return element.string(); });
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

}  // namespace

Value argument(const Arguments& arguments, size_t index, const char* name, Value fallback) {
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
  spend(1 + text.size());
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

List pairs_of(const Value& value) {
  List out;
  for (const auto& [key, element] : value.dict()) out.emplace_back(List{key, element});
  return out;
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
    const std::string& text = object.string();
    if (at < 0) at += static_cast<int64_t>(count_characters(text));
    for (size_t begin = 0; at >= 0 && begin < text.size(); --at) {
      size_t end = begin + 1;
      while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
      if (at == 0) return text.substr(begin, end - begin);
      begin = end;
    }
    return Undefined{"an index outside the text"};
  }
  if (!object.is_list()) return Undefined{"an element of " + std::string(object.kind())};
  const auto size = static_cast<int64_t>(object.list().size());
  if (at < 0) at += size;
  return at >= 0 && at < size ? object.list()[static_cast<size_t>(at)] : Value(Undefined{"an index outside the list"});
}

}  // namespace deepseek::formats::jinja
