#include "explain/prompt/prompt_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepseek::explain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> pieces_of(const std::string& text) {
  auto tree = prompt_tree(text);
  EXPECT_TRUE(tree) << text;
  std::vector<std::string> pieces;
  for (const TextPiece& piece : tree->pieces) pieces.push_back(text.substr(piece.begin, piece.end - piece.begin));
  return pieces;
}

// "(" and ")" around a group, features by number.
std::string shape(const FeatureTree& tree, int32_t node = 0) {
  const FeatureNode& n = tree.nodes[static_cast<size_t>(node)];
  if (n.feature >= 0) return std::to_string(n.feature);
  std::string text = "(";
  for (const int32_t child : n.children) text += (text.size() > 1 ? " " : "") + shape(tree, child);
  return text + ")";
}

TEST(PromptTree, WordsTakeTheirSpacesAndMarks) {
  EXPECT_THAT(pieces_of("The capital of France is"), ElementsAre("The", " capital", " of", " France", " is"));
  EXPECT_THAT(pieces_of("He said: \"no (never)!\" - 2 + 3.5, $5 "), ElementsAre("He", " said:", " \"no", " (never)!\"", " -", " 2", " +", " 3.5,", " $5 "));
  EXPECT_THAT(pieces_of("Hi 👋🏽👩‍👩‍👧 there"), ElementsAre("Hi", " 👋🏽", "👩‍👩‍👧", " there"));
  EXPECT_THAT(pieces_of("中国的首都（首府）是哪里？"), ElementsAre("中国", "的", "首都", "（首府）", "是", "哪里？"));
  EXPECT_THAT(pieces_of("?"), ElementsAre("?"));
}

TEST(PromptTree, PiecesAreTheWholeText) {
  for (const std::string text : {"a", " a ", "\n\n a\n\n\nb. C!\r\n\r\nd", "。。。", "one\ttwo\u00a0three \u3000", "(((", "\"", "#include <x>\n\nint main() { return 0; }\n", "😀😀 😀", "e\u0301te\u0301 \u200b x",
                                 "ภาษาไทยง่าย 日本語のテキストです。 한국어 문장. עברית"}) {
    auto tree = prompt_tree(text);
    ASSERT_TRUE(tree) << text;
    std::string whole;
    for (const std::string& piece : pieces_of(text)) {
      EXPECT_FALSE(piece.empty());
      whole += piece;
    }
    EXPECT_EQ(whole, text);
    ASSERT_EQ(tree->tree.feature_count(), static_cast<int64_t>(tree->pieces.size()));
    const auto leaves = tree->tree.leaves();
    for (size_t i = 0; i < leaves.size(); ++i) EXPECT_EQ(tree->tree.nodes[static_cast<size_t>(leaves[i])].name, pieces_of(text)[i]);
  }
}

TEST(PromptTree, ParagraphsHoldSentencesAndSentencesWords) {
  auto tree = prompt_tree("Mr. Smith came home. He sat down!\n\nA list:\n1. one\n2. two\n\n\nBye.");
  ASSERT_TRUE(tree);
  EXPECT_EQ(shape(tree->tree), "(((0 1 2 3) (4 5 6)) ((7 8) (9 10) (11 12)) 13)");
  EXPECT_EQ(tree->tree.nodes[1].name, "¶1 Mr. Smith came home. He sat down!");
  EXPECT_EQ(tree->tree.nodes[2].name, "Mr. Smith came home.");
  EXPECT_EQ(shape(prompt_tree("one two three")->tree), "(0 1 2)");
  EXPECT_EQ(shape(prompt_tree("今天下雨。明天天晴。")->tree), "((0 1) (2 3))");
}

TEST(PromptTree, NamesOfGroupsAreShort) {
  std::string text = "A first sentence.";
  for (int i = 0; i < 200; ++i) text += " Word";
  auto tree = prompt_tree(text + ".");
  ASSERT_TRUE(tree);
  EXPECT_THAT(tree->tree.nodes[5].name, StartsWith("Word Word"));
  EXPECT_LT(tree->tree.nodes[5].name.size(), 60U);
}

TEST(PromptTree, WhatIsNoPromptIsRefused) {
  for (const std::string text : {"", " \n\t", "\u3000\u00a0"}) EXPECT_THAT(prompt_tree(text).error().message, HasSubstr("the prompt is empty"));
  EXPECT_THAT(prompt_tree("a\xff" "b").error().message, HasSubstr("no UTF-8"));
}

}  // namespace
}  // namespace deepseek::explain
