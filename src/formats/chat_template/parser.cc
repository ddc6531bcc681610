#include "formats/chat_template/parser.h"

#include <fmt/format.h>

#include <algorithm>

namespace deepseek::formats::jinja {
namespace {

constexpr int kMaxDepth = 200;
using Names = std::vector<std::string>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Node run() {
    Node root = block({});
    if (now().kind != TokenKind::kEnd) fail("something is left over");
    return root;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxDepth) parser_.fail("the template is nested too deeply");
    }
    ~Deeper() { --parser_.depth_; }
    Parser& parser_;
  };

  [[noreturn]] void fail(const std::string& what) const { throw Trouble(fmt::format("line {}: {}", now().line, what)); }
  [[nodiscard]] const Token& now() const { return tokens_[at_]; }
  [[nodiscard]] const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    Token token = now();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  [[nodiscard]] bool is_operator(const char* text) const { return now().kind == TokenKind::kOperator && now().text == text; }
  [[nodiscard]] bool is_name(const char* text) const { return now().kind == TokenKind::kName && now().text == text; }
  bool accept_operator(const char* text) {
    if (!is_operator(text)) return false;
    take();
    return true;
  }
  bool accept_name(const char* text) {
    if (!is_name(text)) return false;
    take();
    return true;
  }
  void need_operator(const char* text) {
    if (!accept_operator(text)) fail(fmt::format("'{}' is missing before '{}'", text, now().text));
  }
  std::string need_name() {
    if (now().kind != TokenKind::kName) fail(fmt::format("a name is missing before '{}'", now().text));
    return take().text;
  }
  void end_block() {
    if (now().kind != TokenKind::kBlockEnd) fail(fmt::format("'{}' is unexpected in a tag", now().text));
    take();
  }
  // The tree is walked by recursion: chains such as 1+1+1 count too, which grow without the parser going deeper.
  void add(Node& parent, Node part) const {
    parent.height = std::max(parent.height, part.height + 1);
    if (parent.height > kMaxDepth) fail("the template is nested too deeply");
    parent.parts.push_back(std::move(part));
  }
  template <typename... Parts>
  Node make(NodeKind kind, std::string name = "", Parts&&... parts) const {
    Node out{kind, now().line, std::move(name), {}, {}, {}, false, 1};
    (add(out, std::move(parts)), ...);
    return out;
  }

  // Until a tag whose name is among `ends`, which stays.
  Node block(const Names& ends) {
    const Deeper deeper(*this);
    Node out = make(NodeKind::kBlock);
    for (;;) {
      if (now().kind == TokenKind::kText) {
        add(out, make(NodeKind::kText, now().text));
        take();
      } else if (now().kind == TokenKind::kOutputBegin) {
        take();
        add(out, make(NodeKind::kOutput, "", tuple()));
        if (now().kind != TokenKind::kOutputEnd) fail(fmt::format("'{}' is unexpected in an expression", now().text));
        take();
      } else if (now().kind == TokenKind::kBlockBegin) {
        if (std::find(ends.begin(), ends.end(), ahead().text) != ends.end()) return out;
        take();
        add(out, statement());
      } else {
        if (!ends.empty()) fail(fmt::format("'{}' is missing", ends.back()));
        return out;
      }
    }
  }

  void close(const char* name) {
    take();  // {%
    if (!accept_name(name)) fail(fmt::format("'{}' is missing", name));
    end_block();
  }

  Node statement() {
    const std::string name = need_name();
    if (name == "if") return if_statement();
    if (name == "for") return for_statement();
    if (name == "set") return set_statement();
    if (name == "macro") return macro_statement();
    if (name == "generation") {
      end_block();
      Node body = block({"endgeneration"});
      close("endgeneration");
      return body;
    }
    if (name == "filter") {
      Node filter = make(NodeKind::kConstant);
      filter = filters(std::move(filter), true);
      end_block();
      Node out = make(NodeKind::kFilterBlock, "", block({"endfilter"}), std::move(filter));
      close("endfilter");
      return out;
    }
    if (name == "break" || name == "continue") {
      end_block();
      return make(name == "break" ? NodeKind::kBreak : NodeKind::kContinue);
    }
    fail(fmt::format("the statement '{}' is not known", name));
  }

  Node if_statement() {
    Node out = make(NodeKind::kIf, "", tuple());
    end_block();
    add(out, block({"elif", "else", "endif"}));
    for (;;) {
      take();
      const std::string name = need_name();
      if (name == "elif") {
        add(out, tuple());
        end_block();
        add(out, block({"elif", "else", "endif"}));
      } else if (name == "else") {
        end_block();
        add(out, block({"endif"}));
        close("endif");
        return out;
      } else {
        end_block();
        return out;
      }
    }
  }

  Node for_statement() {
    Node out = make(NodeKind::kFor);
    do {
      const bool bracket = accept_operator("(");
      out.names.push_back(need_name());
      while (bracket && accept_operator(",")) out.names.push_back(need_name());
      if (bracket) need_operator(")");
    } while (accept_operator(","));
    if (!accept_name("in")) fail("'in' is missing in a for");
    Node iterable = conditional(false);
    Node filter;
    const bool filtered = accept_name("if");
    if (filtered) filter = expression();
    accept_name("recursive");
    end_block();
    Node body = block({"else", "endfor"}), otherwise = make(NodeKind::kBlock);
    take();
    if (accept_name("else")) {
      end_block();
      otherwise = block({"endfor"});
      take();
    }
    if (!accept_name("endfor")) fail("'endfor' is missing");
    end_block();
    for (Node* part : {&iterable, &body, &otherwise}) add(out, std::move(*part));
    if (filtered) add(out, std::move(filter));
    return out;
  }

  Node set_statement() {
    Node out = make(NodeKind::kSet);
    out.names.push_back(need_name());
    if (accept_operator(".")) {
      out.kind = NodeKind::kSetMember;
      out.name = need_name();
    }
    while (accept_operator(",")) out.names.push_back(need_name());
    if (accept_operator("=")) {
      add(out, tuple());
      end_block();
      return out;
    }
    out.kind = NodeKind::kSetBlock;
    Node filter = make(NodeKind::kConstant);
    const bool filtered = is_operator("|");
    if (filtered) filter = filters(std::move(filter), false);
    end_block();
    add(out, block({"endset"}));
    if (filtered) add(out, std::move(filter));
    close("endset");
    return out;
  }

  Node macro_statement() {
    Node out = make(NodeKind::kMacro, need_name(), Node{});
    need_operator("(");
    while (!accept_operator(")")) {
      out.names.push_back(need_name());
      if (accept_operator("=")) {
        add(out, expression());
      } else {
        Node missing = make(NodeKind::kConstant);
        missing.value = Undefined{out.names.back()};
        add(out, std::move(missing));
      }
      if (!is_operator(")")) need_operator(",");
    }
    end_block();
    Node body = block({"endmacro"});
    out.height = std::max(out.height, body.height + 1);
    out.parts[0] = std::move(body);
    close("endmacro");
    return out;
  }

  // An expression, or several with commas between them, which make a list.
  Node tuple() {
    Node first = expression();
    if (!is_operator(",")) return first;
    Node list = make(NodeKind::kList, "", std::move(first));
    while (accept_operator(",")) {
      if (now().kind == TokenKind::kOutputEnd || now().kind == TokenKind::kBlockEnd || is_operator(")")) break;
      add(list, expression());
    }
    return list;
  }

  Node expression() { return conditional(true); }

  Node conditional(bool with_if) {
    const Deeper deeper(*this);
    Node value = or_expression();
    while (with_if && is_name("if")) {
      take();
      Node condition = or_expression();
      Node otherwise = make(NodeKind::kConstant);
      otherwise.value = Undefined{"an if without else"};
      if (accept_name("else")) otherwise = conditional(true);
      value = make(NodeKind::kConditional, "", std::move(condition), std::move(value), std::move(otherwise));
    }
    return value;
  }

  Node or_expression() {
    Node left = and_expression();
    while (accept_name("or")) left = make(NodeKind::kOr, "", std::move(left), and_expression());
    return left;
  }

  Node and_expression() {
    Node left = not_expression();
    while (accept_name("and")) left = make(NodeKind::kAnd, "", std::move(left), not_expression());
    return left;
  }

  Node not_expression() {
    const Deeper deeper(*this);
    if (accept_name("not")) return make(NodeKind::kNot, "", not_expression());
    return comparison();
  }

  Node comparison() {
    Node first = sum();
    Node chain = make(NodeKind::kCompare, "", std::move(first));
    for (;;) {
      std::string op;
      if (now().kind == TokenKind::kOperator && (now().text == "==" || now().text == "!=" || now().text == "<" || now().text == ">" || now().text == "<=" || now().text == ">=")) {
        op = take().text;
      } else if (is_name("in")) {
        op = take().text;
      } else if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
        take();
        take();
        op = "not in";
      } else {
        break;
      }
      chain.names.push_back(op);
      add(chain, sum());
    }
    if (!chain.names.empty()) return chain;
    Node only = std::move(chain.parts[0]);
    return only;
  }

  Node binary(std::initializer_list<const char*> operators, Node (Parser::*next)()) {
    Node left = (this->*next)();
    for (;;) {
      const auto found = std::find_if(operators.begin(), operators.end(), [&](const char* op) { return is_operator(op); });
      if (found == operators.end()) return left;
      take();
      left = make(NodeKind::kBinary, *found, std::move(left), (this->*next)());
    }
  }

  Node sum() { return binary({"+", "-"}, &Parser::concatenation); }
  Node concatenation() { return binary({"~"}, &Parser::product); }
  Node product() { return binary({"*", "/", "//", "%"}, &Parser::power); }
  Node power() {
    Node left = unary(true);
    while (accept_operator("**")) left = make(NodeKind::kBinary, "**", std::move(left), unary(true));
    return left;
  }

  Node unary(bool with_filter) {
    const Deeper deeper(*this);
    Node out;
    if (accept_operator("-")) {
      out = make(NodeKind::kUnary, "-", unary(false));
    } else if (accept_operator("+")) {
      out = make(NodeKind::kUnary, "+", unary(false));
    } else {
      out = postfix(primary());
    }
    return with_filter ? filters(std::move(out), false) : out;
  }

  Node primary() {
    Node out = make(NodeKind::kConstant);
    if (now().kind == TokenKind::kName) {
      const std::string name = take().text;
      if (name == "true" || name == "True") {
        out.value = true;
      } else if (name == "false" || name == "False") {
        out.value = false;
      } else if (name != "none" && name != "None") {
        out = make(NodeKind::kName, name);
      }
      return out;
    }
    if (now().kind == TokenKind::kString) {
      std::string text;
      while (now().kind == TokenKind::kString) text += take().text;
      out.value = text;
      return out;
    }
    if (now().kind == TokenKind::kInteger) {
      out.value = static_cast<int64_t>(std::stoll(take().text));
      return out;
    }
    if (now().kind == TokenKind::kFloat) {
      out.value = std::stod(take().text);
      return out;
    }
    if (accept_operator("(")) {
      if (accept_operator(")")) return make(NodeKind::kList);
      Node inner = tuple();
      need_operator(")");
      return inner;
    }
    if (accept_operator("[")) return sequence("]");
    if (accept_operator("{")) return mapping();
    fail(fmt::format("'{}' is unexpected in an expression", now().text));
  }

  Node sequence(const char* end) {
    Node out = make(NodeKind::kList);
    while (!accept_operator(end)) {
      add(out, expression());
      if (!is_operator(end)) need_operator(",");
    }
    return out;
  }

  Node mapping() {
    Node out = make(NodeKind::kDict);
    while (!accept_operator("}")) {
      add(out, expression());
      need_operator(":");
      add(out, expression());
      if (!is_operator("}")) need_operator(",");
    }
    return out;
  }

  Node postfix(Node value) {
    for (;;) {
      if (accept_operator(".")) {
        const std::string name = now().kind == TokenKind::kInteger ? take().text : need_name();
        value = make(NodeKind::kMember, name, std::move(value));
      } else if (accept_operator("[")) {
        value = subscript(std::move(value));
      } else if (accept_operator("(")) {
        value = call(NodeKind::kCall, "", std::move(value));
      } else {
        return value;
      }
    }
  }

  Node subscript(Node value) {
    const auto absent = [&] { return make(NodeKind::kConstant); };
    Node begin = absent(), end = absent(), step = absent();
    if (!is_operator(":")) {
      begin = expression();
      if (accept_operator("]")) return make(NodeKind::kIndex, "", std::move(value), std::move(begin));
    }
    need_operator(":");
    if (!is_operator(":") && !is_operator("]")) end = expression();
    if (accept_operator(":") && !is_operator("]")) step = expression();
    need_operator("]");
    return make(NodeKind::kSlice, "", std::move(value), std::move(begin), std::move(end), std::move(step));
  }

  // Arguments after "(": positional ones have an empty name.
  Node call(NodeKind kind, const std::string& name, Node first) {
    Node out = make(kind, name, std::move(first));
    while (!accept_operator(")")) {
      std::string argument;
      if (now().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator && ahead().text == "=") {
        argument = take().text;
        take();
      }
      out.names.push_back(argument);
      add(out, expression());
      if (!is_operator(")")) need_operator(",");
    }
    return out;
  }

  // "| filter(...)" and "is test"; `first`: the name of a filter stands here without its bar.
  Node filters(Node value, bool first) {
    for (;;) {
      if (first || accept_operator("|")) {
        first = false;
        std::string name = need_name();
        while (accept_operator(".")) name += "." + need_name();
        value = accept_operator("(") ? call(NodeKind::kFilter, name, std::move(value)) : make(NodeKind::kFilter, name, std::move(value));
      } else if (is_name("is")) {
        take();
        value = test(std::move(value));
      } else if (accept_operator("(")) {
        value = postfix(call(NodeKind::kCall, "", std::move(value)));
      } else {
        return value;
      }
    }
  }

  Node test(Node value) {
    const bool negated = accept_name("not");
    const std::string name = need_name();
    Node out = make(NodeKind::kTest, name, std::move(value));
    if (accept_operator("(")) {
      out = call(NodeKind::kTest, name, std::move(out.parts[0]));
    } else {
      const bool word = now().kind == TokenKind::kName && !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is") && !is_name("if") && !is_name("not") && !is_name("in");
      const bool constant = now().kind == TokenKind::kString || now().kind == TokenKind::kInteger || now().kind == TokenKind::kFloat || is_operator("[") || is_operator("{");
      if (word || constant) {
        out.names.emplace_back();
        add(out, postfix(primary()));
      }
    }
    out.flag = negated;
    return out;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Node parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace deepseek::formats::jinja
