#include "explain/prompt/explain_prompt.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "explain/prompt/prompt_game.h"
#include "explain/report/write_document.h"

namespace deepseek::explain {
namespace {

using base::Result;

// As many as give each word its own coalitions where words are few. Beyond kWords the estimate has less than it opens every word with (EstimateOptions::negligible).
int64_t budget_of(int64_t asked, int64_t words) {
  constexpr int64_t kWords = 64;
  if (asked != 0) return asked;
  return words <= kWords ? std::max<int64_t>(8 * words, 256) : 8 * kWords;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? text : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

Origin origin_of(const models::ModelText& text, const PromptOptions& o, const Estimate& estimate, const FeatureTree& tree, const std::vector<int32_t>& answer) {
  Origin origin{.model = text.name, .kind = "language model", .output = trimmed(text.tokenizer.decode(answer)), .units = "log-probability",
                .worth = o.filler.empty() ? "taken out" : "filled",
                .values = tree.is_flat() ? "Shapley" : "Winter", .confidence = o.confidence, .seed = o.seed};
  if (!o.answer) origin.notes.push_back("the answer is the model's own, the likeliest token each time");
  if (o.chat && !text.chat_template) origin.notes.push_back("the model has no chat template: it was asked in the form \"Question: ... Answer:\"");
  if (!o.filler.empty()) origin.notes.push_back("hidden text was replaced by: " + o.filler);
  describe_estimate(origin, estimate, o.precision);
  return origin;
}

}  // namespace

Result<nlohmann::ordered_json> explain_prompt(engine::LanguageModel& model, const models::ModelText& text, const PromptOptions& o) {
  const std::string prompt = base::to_valid_utf8(o.prompt);
  auto tree = prompt_tree(prompt);
  if (!tree) return base::pass(tree);
  const auto words = static_cast<int64_t>(tree->pieces.size());
  const EstimateOptions how{.budget = budget_of(o.budget, words), .precision = o.precision, .confidence = o.confidence, .pairs = o.pairs, .seed = o.seed};
  PromptGameOptions options{.chat = o.chat, .system = base::to_valid_utf8(o.system), .filler = base::to_valid_utf8(o.filler), .stop_requested = o.stop_requested};
  if (o.on_progress) options.on_progress = [&](int64_t asked) { o.on_progress(asked, std::max(asked, how.budget)); };
  auto tokens = o.answer ? encode_answer(model, text, prompt, base::to_valid_utf8(*o.answer), options) : find_answer(model, text, prompt, o.answer_tokens, options);
  if (!tokens) return base::pass(tokens);
  PromptGame game(model, text, prompt, tree->pieces, tokens->answer, std::move(options));
  auto estimate = estimate_winter(game, tree->tree, how);
  if (!estimate) return base::pass(estimate);
  const Origin origin = origin_of(text, o, *estimate, tree->tree, tokens->answer);
  const double score = estimate->total;
  return document_of(origin, tree->tree, local_of(std::move(*estimate)), SampleText{.prediction = std::exp(score)});
}

Result<nlohmann::ordered_json> explain_prompt(const PromptOptions& options) {
  if (auto tree = prompt_tree(base::to_valid_utf8(options.prompt)); !tree) return base::pass(tree);  // before a model is read
  auto text = models::open_model(options.model);
  if (!text) return base::pass(text);
  if (auto runs = models::require_decoder(*text); !runs) return base::pass(runs);
  auto model = engine::load_fused(*text, {.threads = options.threads});
  if (!model) return base::pass(model);
  text->gguf.reset();
  return explain_prompt(**model, *text, options);
}

}  // namespace deepseek::explain
