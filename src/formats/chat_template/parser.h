// The tree of a template.
#pragma once

#include <string>
#include <vector>

#include "formats/chat_template/lexer.h"
#include "formats/chat_template/value.h"

namespace deepseek::formats::jinja {

enum class NodeKind {
  // Statements. kIf: parts are condition, body, condition, body, ..., [body]; kFor: iterable, body, else, [filter];
  // kSet: target in names, value; kSetBlock: body; kMacro: body, defaults.
  kBlock, kText, kOutput, kIf, kFor, kSet, kSetMember, kSetBlock, kMacro, kBreak, kContinue, kFilterBlock,
  // Expressions.
  kConstant, kName, kList, kDict, kMember, kIndex, kSlice, kCall, kFilter, kTest, kUnary, kBinary, kCompare, kAnd, kOr, kNot, kConditional,
};

struct Node {
  NodeKind kind = NodeKind::kBlock;
  int line = 0;
  std::string name;                 ///< text, name, operator
  Value value;                      ///< of a constant
  std::vector<Node> parts;
  std::vector<std::string> names;   ///< targets, parameters, names of named arguments, operators of a chain
  bool flag = false;                ///< "is not"
  int height = 1;                   ///< of the tree below, limited by the parser
};

/// Throws Trouble naming the line.
[[nodiscard]] Node parse(std::string_view source);

}  // namespace deepseek::formats::jinja
