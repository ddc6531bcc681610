// Prompts of tiny models against a direct computation, and Gemma 3 270M where it is on this machine.
#include "explain/prompt/prompt_game.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "explain/prompt/explain_prompt.h"
#include "explain/report/document.h"
#include "explain/report/text_report.h"

namespace deepseek::explain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Tiny {
  models::ModelText text;
  std::unique_ptr<engine::LanguageModel> model;
};

Tiny open(const base::fs::path& path) {
  auto text = models::open_model(path.string());
  EXPECT_TRUE(text);
  auto model = engine::load_fused(*text, {.threads = 2, .cache = false});
  EXPECT_TRUE(model);
  return {std::move(*text), std::move(*model)};
}
Tiny tiny(const std::string& name = "gemma3") { return open(base::fs::path(DEEPSEEK_SOURCE_DIR) / "tests/golden/models" / name); }

const std::string kPrompt = "One bond. Two loans, three!\n\nWhat is it?";

std::vector<uint8_t> all_coalitions(size_t players) {
  std::vector<uint8_t> all;
  for (size_t mask = 0; mask < size_t{1} << players; ++mask) {
    for (size_t i = 0; i < players; ++i) all.push_back(mask >> i & 1);
  }
  return all;
}

std::vector<double> worth_of(PromptGame& game, const std::vector<uint8_t>& coalitions) {
  std::vector<double> worth(coalitions.size() / static_cast<size_t>(game.players()));
  EXPECT_TRUE(game.worth(coalitions, worth));
  return worth;
}

// The model's own sum over the answer, each coalition from its beginning.
TEST(PromptGame, WorthIsTheLogProbabilityOfTheAnswer) {
  for (const bool chat : {false, true}) {
    for (const std::string name : {"gemma3", "qwen3", "llama_gqa"}) {
      Tiny t = tiny(name);
      const PromptTree tree = *prompt_tree(kPrompt);
      const PromptGameOptions options{.chat = chat, .system = chat ? "Be short." : ""};
      auto tokens = encode_answer(*t.model, t.text, kPrompt, "A bond", options);
      ASSERT_TRUE(tokens) << tokens.error().message;
      PromptGame game(*t.model, t.text, kPrompt, tree.pieces, tokens->answer, options);
      std::vector<uint8_t> coalitions = all_coalitions(tree.pieces.size());
      coalitions.resize(coalitions.size() / 8);  // the last three words are hidden
      coalitions.insert(coalitions.end(), tree.pieces.size(), 1);
      const auto worth = worth_of(game, coalitions);
      for (size_t i = 0; i < worth.size(); i += 4) {
        auto ids = game.context_of(std::span(coalitions).subspan(i * tree.pieces.size(), tree.pieces.size()));
        ASSERT_TRUE(ids);
        std::vector<uint8_t> counted(ids->size(), 0);
        ids->insert(ids->end(), tokens->answer.begin(), tokens->answer.end());
        counted.resize(ids->size(), 1);
        const engine::LanguageModel::Scored scored[] = {{*ids, counted}};
        auto loss = t.model->loss(scored);
        ASSERT_TRUE(loss);
        EXPECT_NEAR(worth[i], -*loss, 1e-2 + 1e-3 * *loss) << name << " " << i;  // keys and values in bf16
      }
      EXPECT_LT(game.tokens_read(), game.tokens_given());
    }
  }
}

TEST(PromptGame, WhatCoalitionsShareIsReadOnceAndChangesNothing) {
  Tiny t = tiny();
  const PromptTree tree = *prompt_tree(kPrompt);
  auto tokens = encode_answer(*t.model, t.text, kPrompt, "the answer", {});
  ASSERT_TRUE(tokens);
  PromptGame shared(*t.model, t.text, kPrompt, tree.pieces, tokens->answer), naive(*t.model, t.text, kPrompt, tree.pieces, tokens->answer, {.keep_prefix = false});
  const auto coalitions = all_coalitions(tree.pieces.size());
  const auto one = worth_of(shared, coalitions), other = worth_of(naive, coalitions);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-2 + 1e-3 * std::abs(other[i])) << i;
  EXPECT_EQ(naive.tokens_read(), naive.tokens_given());
  EXPECT_LT(2 * shared.tokens_read(), shared.tokens_given());
  EXPECT_EQ(worth_of(shared, coalitions), one);  // the same again
}

std::string text_of(const Tiny& t, PromptGame& game, std::vector<uint8_t> coalition) { return t.text.tokenizer.decode(*game.context_of(coalition)); }

TEST(PromptGame, HiddenPiecesLeaveTheLayout) {
  Tiny t = tiny();
  const PromptTree tree = *prompt_tree(kPrompt);  // One bond. Two loans, three! What is it?
  PromptGame game(*t.model, t.text, kPrompt, tree.pieces, {1});
  EXPECT_EQ(text_of(t, game, {1, 1, 1, 1, 1, 1, 1, 1}), kPrompt);
  EXPECT_EQ(text_of(t, game, {0, 1, 0, 0, 1, 0, 1, 1}), "bond. three!\n\nis it?");
  EXPECT_EQ(text_of(t, game, {1, 0, 0, 0, 0, 0, 0, 0}), "One");
  EXPECT_EQ(text_of(t, game, {0, 0, 0, 0, 0, 1, 1, 0}), "What is");
  EXPECT_EQ(text_of(t, game, {0, 0, 0, 0, 0, 0, 0, 0}), "");
  PromptGame filled(*t.model, t.text, kPrompt, tree.pieces, {1}, {.filler = "..."});
  EXPECT_EQ(text_of(t, filled, {0, 1, 0, 0, 1, 0, 1, 1}), "... bond. ... three!\n\n... is it?");
  PromptGame chat(*t.model, t.text, kPrompt, tree.pieces, {1}, {.chat = true, .system = "Be short."});
  EXPECT_EQ(text_of(t, chat, {0, 1, 0, 0, 0, 0, 0, 0}), "Be short.\nQuestion: bond.\nAnswer:");
}

TEST(PromptGame, AnInterruptionAndTheModelsErrorsEndIt) {
  Tiny t = tiny();
  const PromptTree tree = *prompt_tree("one two");
  PromptGame stopped(*t.model, t.text, "one two", tree.pieces, {1}, {.stop_requested = [] { return true; }});
  std::vector<double> worth(1);
  EXPECT_THAT(stopped.worth(std::vector<uint8_t>{1, 1}, worth).error().message, HasSubstr("interrupted"));
  PromptGame strange(*t.model, t.text, "one two", tree.pieces, {1, 1 << 20, 2});
  EXPECT_FALSE(strange.worth(std::vector<uint8_t>{1, 1}, worth));
}

double value_named(const Document& document, const std::string& name) {
  for (size_t i = 0; i < document.nodes.size(); ++i) {
    if (document.nodes[i].name == name) return document.local->values[i];
  }
  ADD_FAILURE() << name;
  return 0;
}

Document explained(Tiny& t, const PromptOptions& options) {
  auto json = explain_prompt(*t.model, t.text, options);
  EXPECT_TRUE(json) << json.error().message;
  auto document = read_document(*json);
  EXPECT_TRUE(document);
  return *document;
}

TEST(ExplainPrompt, ValuesAddUpFromTheBareModelToTheAnswer) {
  Tiny t = tiny();
  int64_t asked = 0;
  const Document document = explained(t, {.prompt = kPrompt, .answer = "A bond", .on_progress = [&](int64_t done, int64_t) { asked = done; }});
  EXPECT_EQ(document.kind, "language model");
  EXPECT_EQ(document.output, "A bond");
  EXPECT_EQ(document.units, "log-probability");
  EXPECT_TRUE(document.exact);
  EXPECT_EQ(asked, 256);
  EXPECT_NEAR(document.base + document.local->values[0], document.local->score, 1e-9);
  EXPECT_NEAR(*document.local->prediction, std::exp(document.local->score), 1e-9);
  std::vector<double> sums(document.nodes.size());
  for (size_t i = 1; i < sums.size(); ++i) sums[static_cast<size_t>(document.nodes[i].parent)] += document.local->values[i];
  for (size_t i = 0; i < sums.size(); ++i) {
    if (!document.nodes[i].children.empty()) { EXPECT_NEAR(sums[i], document.local->values[i], 1e-9); }
  }
  EXPECT_FALSE(document.local->interactions.empty());
}

TEST(ExplainPrompt, OfALongPromptWordsAreOpenedWhereTheyMatter) {
  Tiny t = tiny();
  std::string prompt;
  for (int i = 0; i < 12; ++i) prompt += "a b c d e f. ";
  const Document document = explained(t, {.prompt = prompt, .answer_tokens = 2, .budget = 64, .pairs = 0});
  EXPECT_FALSE(document.exact);
  EXPECT_LE(document.coalitions, 64);
  EXPECT_GE(document.nodes.size(), 13U);
  EXPECT_NEAR(document.base + document.local->values[0], document.local->score, 1e-6);
}

TEST(ExplainPrompt, WhatCannotBeIsRefused) {
  Tiny t = tiny();
  const auto refusal = [&](const PromptOptions& options) {
    auto json = explain_prompt(*t.model, t.text, options);
    return json ? "" : json.error().message;
  };
  EXPECT_THAT(refusal({.prompt = " \n"}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal({.prompt = "a", .answer = ""}), HasSubstr("the answer has no tokens"));
  EXPECT_THAT(refusal({.prompt = std::string(300, 'a'), .answer = "b"}), HasSubstr("the model's context holds 256"));
  EXPECT_THAT(refusal({.prompt = "a b", .answer = "b", .confidence = 2}), HasSubstr("confidence"));
  EXPECT_THAT(refusal({.prompt = "a b c d", .answer = "b", .stop_requested = [] { return true; }}), HasSubstr("interrupted"));
  EXPECT_THAT(explain_prompt({.model = "/nonexistent/model", .prompt = "a"}).error().message, Not(HasSubstr("\n")));
  EXPECT_EQ(refusal({.prompt = "a\xff b \x01", .answer = "\xfe"}), "");
}

// Gemma 3 270M.
base::fs::path gemma() {
  const char* named = std::getenv("DEEPSEEK_GEMMA");
  return named != nullptr ? base::fs::path(named) : base::cache_directory() / "models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf";
}

TEST(ExplainPrompt, FranceIsWhyTheAnswerIsParis) {
  if (!base::fs::exists(gemma())) GTEST_SKIP() << "no " << gemma();
  Tiny t = open(gemma());
  const Document paris = explained(t, {.prompt = "The capital of France is", .answer = "Paris"});
  EXPECT_EQ(paris.output, "Paris");
  const double france = value_named(paris, " France");
  for (const std::string other : {"The", " capital", " of", " is"}) EXPECT_GT(france, value_named(paris, other)) << other;
}

}  // namespace
}  // namespace deepseek::explain
