// Runs the tree of a template.
#pragma once

#include <string>

#include "formats/chat_template/parser.h"

namespace deepseek::formats::jinja {

/// The text of a template. Throws Trouble: raise_exception(), an operation on what is undefined, a limit on steps, depth or size.
[[nodiscard]] std::string run(const Node& root, Dict variables);

/// Filters, tests and methods by name; throw Trouble where there is none.
[[nodiscard]] Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
[[nodiscard]] bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
[[nodiscard]] Value call_method(const Value& object, const std::string& name, const Arguments& arguments);
/// object.name or object["name"]; undefined where it has none.
[[nodiscard]] Value member(const Value& object, const std::string& name);
[[nodiscard]] Value element(const Value& object, const Value& index);

}  // namespace deepseek::formats::jinja
