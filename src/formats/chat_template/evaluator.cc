#include "formats/chat_template/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>

namespace deepseek::formats::jinja {
namespace {

constexpr int64_t kMaxSteps = 2'000'000;
constexpr size_t kTicksOfStep = 16;
constexpr int kMaxDepth = 150;

enum class Flow { kOn, kBreak, kContinue };

void must_be_defined(const Value& value) {
  if (value.is_undefined()) throw Trouble(fmt::format("'{}' is undefined", value.undefined_name()));
}

// By reference: the value is written while the first argument is computed.
int64_t checked(bool overflowed, const int64_t& value) {
  if (overflowed) throw Trouble("a number is too large");
  return value;
}

Value arithmetic(const std::string& op, const Value& a, const Value& b) {
  must_be_defined(a);
  must_be_defined(b);
  if (op == "~" || (op == "+" && a.is_string() && b.is_string())) {
    std::string sum = a.text() + b.text();
    check_text(sum.size());
    return sum;
  }
  if (op == "+" && a.is_list() && b.is_list()) {
    check_list(a.list().size() + b.list().size());
    List sum = a.list();
    sum.insert(sum.end(), b.list().begin(), b.list().end());
    return sum;
  }
  if (op == "*" && a.is_string() && b.is_int()) {
    const int64_t count = std::max<int64_t>(0, b.integer());
    if (count > 0 && a.string().size() > kMaxText / static_cast<size_t>(count)) throw Trouble("a repeated text is too long");
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += a.string();
    return out;
  }
  if (op == "%" && a.is_string()) throw Trouble("formatting with % is not supported; use ~");
  const bool whole = !a.is<double>() && !b.is<double>();
  if (whole && op != "/" && op != "**") {
    const int64_t x = a.integer(), y = b.integer();
    int64_t result = 0;
    if (op == "+") return checked(__builtin_add_overflow(x, y, &result), result);
    if (op == "-") return checked(__builtin_sub_overflow(x, y, &result), result);
    if (op == "*") return checked(__builtin_mul_overflow(x, y, &result), result);
    if (y == 0) throw Trouble("division by zero");
    if (x == std::numeric_limits<int64_t>::min() && y == -1) throw Trouble("a number is too large");
    const int64_t quotient = x / y - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0);
    return op == "//" ? quotient : x - quotient * y;
  }
  const double x = a.number(), y = b.number();
  if (op == "+") return x + y;
  if (op == "-") return x - y;
  if (op == "*") return x * y;
  if (op == "**") {
    const double power = std::pow(x, y);
    return whole && y >= 0 && std::abs(power) < 9e15 ? Value(static_cast<int64_t>(power)) : Value(power);
  }
  if (y == 0) throw Trouble("division by zero");
  if (op == "/") return x / y;
  return op == "//" ? std::floor(x / y) : x - std::floor(x / y) * y;
}

bool contains(const Value& container, const Value& what) {
  must_be_defined(container);
  if (container.is_string()) return find_text(container.string(), what.string()) != std::string::npos;
  if (container.is_dict()) return what.is_string() && find(container.dict(), what.string()) != nullptr;
  const auto& list = container.list();
  return std::any_of(list.begin(), list.end(), [&](const Value& element) { return element.equals(what); });
}

bool compares(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return a.equals(b);
  if (op == "!=") return !a.equals(b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  must_be_defined(a);
  must_be_defined(b);
  const int order = a.compare(b);
  return op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
}

template <typename Sequence>
Sequence sliced(const Sequence& source, const Value& begin, const Value& end, const Value& step_value) {
  const auto size = static_cast<int64_t>(source.size());
  // A larger step takes no more than one element, and must not overflow.
  const int64_t step = step_value.is_none() ? 1 : std::clamp(step_value.integer(), -size - 1, size + 1);
  if (step == 0) throw Trouble("the step of a slice is 0");
  const auto bound = [&](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    int64_t at = value.integer();
    if (at < 0) at += size;
    return step > 0 ? std::clamp<int64_t>(at, 0, size) : std::clamp<int64_t>(at, -1, size - 1);
  };
  const int64_t from = bound(begin, step > 0 ? 0 : size - 1), to = bound(end, step > 0 ? size : -1);
  Sequence out;
  for (int64_t i = from; step > 0 ? i < to : i > to; i += step) out.push_back(source[static_cast<size_t>(i)]);
  return out;
}

Value slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  must_be_defined(value);
  if (value.is_list()) return sliced(value.list(), begin, end, step);
  const std::string& text = value.string();
  std::vector<uint32_t> starts;
  for (size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xC0) != 0x80) starts.push_back(static_cast<uint32_t>(at));
  }
  std::string out;
  for (size_t at : sliced(starts, begin, end, step)) {
    do {
      out += text[at++];
    } while (at < text.size() && (text[at] & 0xC0) == 0x80);
  }
  return out;
}

Value range(const Arguments& arguments) {
  const auto& a = arguments.positional;
  if (a.empty() || a.size() > 3) throw Trouble("range takes one to three numbers");
  const int64_t begin = a.size() > 1 ? a[0].integer() : 0, end = a.size() > 1 ? a[1].integer() : a[0].integer(), step = a.size() > 2 ? a[2].integer() : 1;
  if (step == 0) throw Trouble("the step of a range is 0");
  List out;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (out.size() >= 100'000) throw Trouble("a range is too long");
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out;
}

Value strftime_now(const Arguments& arguments) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[512];
  const std::string format = arguments.positional.empty() ? "%Y-%m-%d" : arguments.positional[0].string();
  return std::string(text, std::strftime(text, sizeof text, format.c_str(), &parts));
}

Dict globals() {
  Dict out;
  out.emplace_back("range", Function(range));
  out.emplace_back("strftime_now", Function(strftime_now));
  out.emplace_back("raise_exception", Function([](const Arguments& a) -> Value { throw Trouble(a.positional.empty() ? "the template refuses these messages" : a.positional[0].text()); }));
  const auto make_dict = [](const Arguments& a) -> Value {
    Dict dict;
    if (!a.positional.empty()) dict = a.positional[0].dict();
    for (const auto& [key, value] : a.named) set(dict, key, value);
    return dict;
  };
  out.emplace_back("namespace", Function(make_dict));
  out.emplace_back("dict", Function(make_dict));
  return out;
}

class Evaluator {
 public:
  explicit Evaluator(Dict variables) {
    scopes_.push_back(globals());
    scopes_.push_back(std::move(variables));
  }
  // A namespace that holds itself would never be freed.
  ~Evaluator() {
    for (const auto& value : changed_) value.dict().clear();
  }
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;
  std::string run(const Node& root) {
    execute(root);
    return std::move(out_);
  }

 private:
  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) {
      if (++depth_ > kMaxDepth) throw Trouble("the template calls itself too deeply");
    }
    ~Deeper() { --depth_; }
    int& depth_;
  };

  static void step(size_t count = 1) { spend(kTicksOfStep * count); }
  // What copying a value costs.
  static void spend_on(const Value& value) {
    if (value.is_string()) spend(value.string().size() / 16);
    if (value.is_list()) spend(value.list().size() / 2);
    if (value.is_dict()) spend(value.dict().size());
  }
  void write(const std::string& text) {
    if (out_.size() + text.size() > kMaxText) throw Trouble("the template writes too much");
    out_ += text;
  }
  [[nodiscard]] Value lookup(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      step(scope->size() / 16);
      if (const Value* found = find(*scope, name)) return *found;
    }
    return Undefined{name};
  }

  Flow execute(const Node& node) {
    step();
    switch (node.kind) {
      case NodeKind::kText: write(node.name); return Flow::kOn;
      case NodeKind::kOutput: write(evaluate(node.parts[0]).text()); return Flow::kOn;
      case NodeKind::kBlock:
        for (const auto& part : node.parts) {
          if (const Flow flow = execute(part); flow != Flow::kOn) return flow;
        }
        return Flow::kOn;
      case NodeKind::kIf: return execute_if(node);
      case NodeKind::kFor: return execute_for(node);
      case NodeKind::kSet: assign(node.names, evaluate(node.parts[0])); return Flow::kOn;
      case NodeKind::kSetMember: {
        const Value target = lookup(node.names[0]);
        must_be_defined(target);
        step(target.dict().size() / 16);
        if (changed_.empty() || &changed_.back().dict() != &target.dict()) changed_.push_back(target);
        set(target.dict(), node.name, evaluate(node.parts[0]));
        return Flow::kOn;
      }
      case NodeKind::kSetBlock: {
        Value text = captured(node.parts[0]);
        if (node.parts.size() > 1) text = filter_chain(node.parts[1], text);
        assign(node.names, std::move(text));
        return Flow::kOn;
      }
      case NodeKind::kFilterBlock: write(filter_chain(node.parts[1], captured(node.parts[0])).text()); return Flow::kOn;
      case NodeKind::kMacro: define_macro(node); return Flow::kOn;
      case NodeKind::kBreak: return Flow::kBreak;
      case NodeKind::kContinue: return Flow::kContinue;
      default: throw Trouble(fmt::format("line {}: an expression stands where a statement is needed", node.line));
    }
  }

  Value captured(const Node& body) {
    std::string before;
    std::swap(before, out_);
    execute(body);
    std::swap(before, out_);
    return before;
  }

  // A chain of filters whose innermost value is given.
  Value filter_chain(const Node& node, const Value& innermost) {
    if (node.kind != NodeKind::kFilter) return innermost;
    Arguments arguments = arguments_of(node);
    return apply_filter(node.name, filter_chain(node.parts[0], innermost), arguments);
  }

  Flow execute_if(const Node& node) {
    size_t i = 0;
    for (; i + 1 < node.parts.size(); i += 2) {
      if (evaluate(node.parts[i]).truth()) return execute(node.parts[i + 1]);
    }
    return i < node.parts.size() ? execute(node.parts[i]) : Flow::kOn;
  }

  void assign(const std::vector<std::string>& names, Value value) {
    step(scopes_.back().size() / 16);
    if (names.size() == 1) {
      set(scopes_.back(), names[0], std::move(value));
      return;
    }
    const List values = value.elements();
    if (values.size() != names.size()) throw Trouble(fmt::format("{} values for {} names", values.size(), names.size()));
    for (size_t i = 0; i < names.size(); ++i) set(scopes_.back(), names[i], values[i]);
  }

  static Value loop_value(size_t index, const List& items) {
    const size_t size = items.size();
    Dict loop;
    loop.emplace_back("index", index + 1);
    loop.emplace_back("index0", index);
    loop.emplace_back("revindex", size - index);
    loop.emplace_back("revindex0", size - index - 1);
    loop.emplace_back("first", index == 0);
    loop.emplace_back("last", index + 1 == size);
    loop.emplace_back("length", size);
    loop.emplace_back("previtem", index > 0 ? items[index - 1] : Value(Undefined{"loop.previtem"}));
    loop.emplace_back("nextitem", index + 1 < size ? items[index + 1] : Value(Undefined{"loop.nextitem"}));
    loop.emplace_back("cycle", Function([index](const Arguments& a) -> Value {
      if (a.positional.empty()) throw Trouble("loop.cycle needs values");
      return a.positional[index % a.positional.size()];
    }));
    return loop;
  }

  Flow execute_for(const Node& node) {
    const Deeper deeper(depth_);
    List items = evaluate(node.parts[0]).elements();
    if (node.parts.size() > 3) {
      List kept;
      for (auto& item : items) {
        scopes_.emplace_back();
        assign(node.names, item);
        if (evaluate(node.parts[3]).truth()) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    if (items.empty()) return execute(node.parts[2]);
    for (size_t i = 0; i < items.size(); ++i) {
      step(10);  // "loop" has ten values to make
      scopes_.emplace_back();
      scopes_.back().emplace_back("loop", loop_value(i, items));
      assign(node.names, items[i]);
      const Flow flow = execute(node.parts[1]);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  void define_macro(const Node& node) {
    // The tree outlives the rendering, and so do the outer scopes.
    const Node* macro = &node;
    set(scopes_.back(), node.name, Function([this, macro](const Arguments& arguments) -> Value {
      const Deeper deeper(depth_);
      if (arguments.positional.size() > macro->names.size()) throw Trouble(fmt::format("the macro '{}' takes at most {} values", macro->name, macro->names.size()));
      step(scopes_[1].size());
      std::vector<Dict> inner(scopes_.begin(), scopes_.begin() + 2);
      Dict local;
      for (size_t i = 0; i < macro->names.size(); ++i) {
        Value value = i < arguments.positional.size() ? arguments.positional[i] : Value(Undefined{macro->names[i]});
        const auto named = std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& entry) { return entry.first == macro->names[i]; });
        if (named != arguments.named.end()) {
          value = named->second;
        } else if (i >= arguments.positional.size()) {
          value = evaluate(macro->parts[i + 1]);
        }
        local.emplace_back(macro->names[i], std::move(value));
      }
      inner.push_back(std::move(local));
      std::swap(inner, scopes_);
      Value text = captured(macro->parts[0]);
      std::swap(inner, scopes_);
      return text;
    }));
  }

  Arguments arguments_of(const Node& node) {
    Arguments out;
    for (size_t i = 0; i < node.names.size(); ++i) {
      Value value = evaluate(node.parts[i + 1]);
      if (node.names[i].empty()) {
        out.positional.push_back(std::move(value));
      } else {
        set(out.named, node.names[i], std::move(value));
      }
    }
    return out;
  }

  Value call(const Node& node) {
    const Node& target = node.parts[0];
    if (target.kind == NodeKind::kMember) {
      const Value object = evaluate(target.parts[0]);
      must_be_defined(object);
      Value found = object.is_dict() ? member(object, target.name) : Value(Undefined{target.name});
      if (!found.is_function()) return call_method(object, target.name, arguments_of(node));
      return found.function()(arguments_of(node));
    }
    const Value function = evaluate(target);
    return function.function()(arguments_of(node));
  }

  Value evaluate(const Node& node) {
    step();
    const Deeper deeper(depth_);
    try {
      Value value = compute(node);
      spend_on(value);
      return value;
    } catch (const Trouble& trouble) {
      if (std::string(trouble.what()).starts_with("line ")) throw;
      if (node.kind == NodeKind::kCall && node.parts[0].name == "raise_exception") throw;
      throw Trouble(fmt::format("line {}: {}", node.line, trouble.what()));
    }
  }

  Value compute(const Node& node) {
    const auto part = [&](size_t i) { return evaluate(node.parts[i]); };
    switch (node.kind) {
      case NodeKind::kConstant: return node.value;
      case NodeKind::kName: return lookup(node.name);
      case NodeKind::kList: {
        List list;
        for (const auto& element : node.parts) list.push_back(evaluate(element));
        return list;
      }
      case NodeKind::kDict: {
        Dict dict;
        for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
          step(dict.size() / 16);
          set(dict, part(i).text(), part(i + 1));
        }
        return dict;
      }
      case NodeKind::kMember: {
        const Value object = part(0);
        must_be_defined(object);
        return member(object, node.name);
      }
      case NodeKind::kIndex: {
        const Value object = part(0);
        must_be_defined(object);
        return element(object, part(1));
      }
      case NodeKind::kSlice: return slice(part(0), part(1), part(2), part(3));
      case NodeKind::kCall: return call(node);
      case NodeKind::kFilter: return apply_filter(node.name, part(0), arguments_of(node));
      case NodeKind::kTest: return apply_test(node.name, part(0), arguments_of(node)) != node.flag;
      case NodeKind::kUnary: return node.name == "-" ? arithmetic("-", Value(0), part(0)) : arithmetic("+", Value(0), part(0));
      case NodeKind::kBinary: {
        const Value left = part(0);
        return arithmetic(node.name, left, part(1));
      }
      case NodeKind::kCompare: {
        Value left = part(0);
        for (size_t i = 0; i < node.names.size(); ++i) {
          Value right = part(i + 1);
          if (!compares(node.names[i], left, right)) return false;
          left = std::move(right);
        }
        return true;
      }
      case NodeKind::kAnd: {
        Value left = part(0);
        return left.truth() ? part(1) : left;
      }
      case NodeKind::kOr: {
        Value left = part(0);
        return left.truth() ? left : part(1);
      }
      case NodeKind::kNot: return !part(0).truth();
      case NodeKind::kConditional: return part(0).truth() ? part(1) : part(2);
      default: throw Trouble("a statement stands where an expression is needed");
    }
  }

  std::vector<Dict> scopes_;
  std::vector<Value> changed_;
  std::string out_;
  Budget budget_{kMaxSteps * static_cast<int64_t>(kTicksOfStep)};
  int depth_ = 0;
};

}  // namespace

std::string run(const Node& root, Dict variables) { return Evaluator(std::move(variables)).run(root); }

}  // namespace deepseek::formats::jinja
