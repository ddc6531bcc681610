// eval: loss, exact match and F1 on question sets; perplexity on text.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/sampling_options.h"
#include "engine/answer_metrics.h"
#include "engine/divergence.h"
#include "engine/generator.h"
#include "engine/perplexity.h"
#include "formats/dataset/dataset.h"
#include "models/prompt.h"

namespace deepseek::cli {
namespace {

using base::Status;
using Json = nlohmann::ordered_json;

struct Arguments : EngineArguments {
  std::string dataset, text, split, reference;
  int64_t limit = 0, max_new_tokens = 128, window = 0, stride = 0;
  bool no_generate = false, profile = false;
};

engine::EvaluateOptions evaluate_options(const Arguments& a, const Context& context, const engine::LanguageModel& model, base::Progress& progress) {
  engine::EvaluateOptions options{.window = a.window, .stride = a.stride, .threads = context.threads, .stop_requested = [] { return base::interrupted(); }};
  if (!context.quiet) options.on_progress = [&](int64_t done, int64_t) { progress.update(static_cast<uint64_t>(done), a.profile ? reads_in_short(model) : ""); };
  return options;
}

Status add_loss(base::Result<engine::Perplexity>& result, Json& out) {
  if (!result) return base::pass(result);
  out["loss"] = result->mean_loss;
  out["perplexity"] = result->perplexity;
  out["tokens"] = result->tokens;
  return {};
}

void add_keys_read(const Arguments& a, const engine::LanguageModel& model, Json& out) {
  const double share = model.share_of_keys_read();
  if (share < 1 || a.attention.starts_with("dsa")) out["keys_read"] = share;
}

Status text_perplexity(const Arguments& a, const LoadedModel& model, const Context& context, Json& out) {
  auto text = base::read_file(a.text, size_t{256} << 20);
  if (!text) return base::pass(text);
  const auto ids = model.text.tokenizer.encode(*text);
  base::Progress progress("perplexity", ids.size(), "token");
  auto result = engine::evaluate_text(*model.engine, ids, evaluate_options(a, context, *model.engine, progress));
  add_keys_read(a, *model.engine, out);
  return add_loss(result, out);
}

// How far the model lies from another one on the same text.
Status text_divergence(const Arguments& a, const LoadedModel& model, const Context& context, Json& out) {
  auto reference = load_for_inference(a.reference, {.device = a.device, .threads = context.threads, .attention = "dense"}, context);
  if (!reference) return base::pass(reference);
  auto text = base::read_file(a.text, size_t{256} << 20);
  if (!text) return base::pass(text);
  const std::vector<std::vector<int32_t>> sequences{model.text.tokenizer.encode(*text)};
  if (reference->text.tokenizer.encode(*text) != sequences.front()) return base::refuse("{} and {} read the text as different tokens: they cannot be compared", a.model, a.reference);
  base::Progress progress("divergence", sequences.front().size(), "token");
  auto result = engine::compare_models(*reference->engine, *model.engine, sequences, evaluate_options(a, context, *model.engine, progress));
  if (!result) return base::pass(result);
  out["reference"] = a.reference;
  out["reference_perplexity"] = std::exp(result->reference_loss);
  out["perplexity"] = std::exp(result->loss);
  out["kl"] = result->mean_kl;
  out["largest_kl"] = result->largest_kl;
  out["agreement"] = result->agreement;
  add_keys_read(a, *model.engine, out);
  out["tokens"] = result->tokens;
  return {};
}

std::vector<formats::Example> chosen(std::vector<formats::Example> examples, const Arguments& a) {
  if (!a.split.empty()) std::erase_if(examples, [&](const auto& example) { return example.split != a.split; });
  if (a.limit > 0 && static_cast<size_t>(a.limit) < examples.size()) examples.resize(static_cast<size_t>(a.limit));
  return examples;
}

Status answers_loss(const Arguments& a, const LoadedModel& loaded, const std::vector<formats::Example>& examples,
                    const Context& context, Json& out) {
  const models::ModelText& model = loaded.text;
  std::vector<engine::ScoredSequence> sequences;
  const auto most = static_cast<size_t>(model.config.max_position_embeddings);
  size_t total = 0;
  for (const auto& example : examples) {
    auto tokens = models::tokenize_example(model.tokenizer, model.chat(), example, models::LossOn::kAnswer);
    if (!tokens) return base::pass(tokens);
    if (tokens->tokens.size() > most) {
      return base::refuse("{}: row {} has {} tokens and the model's context holds {}: shorten it or leave it out", a.dataset, tokens->row,
                          tokens->tokens.size(), most);
    }
    total += tokens->tokens.size();
    sequences.push_back({std::move(tokens->tokens), std::move(tokens->counts)});
  }
  base::Progress progress("loss", total, "token");
  auto result = engine::evaluate_answers(*loaded.engine, sequences, evaluate_options(a, context, *loaded.engine, progress));
  return add_loss(result, out);
}

Status generated_scores(const Arguments& a, const LoadedModel& loaded, const std::vector<formats::Example>& examples,
                        const Context& context, Json& out) {
  const models::ModelText& model = loaded.text;
  base::Progress progress("answers", examples.size(), "answer");
  double exact = 0, f1 = 0;
  int64_t done = 0, numbers = 0, right = 0;
  engine::GenerateOptions options;
  options.max_new_tokens = a.max_new_tokens;
  options.sampling.temperature = 0;
  options.eos_ids = model.generation.eos_ids;
  if (!model.chat_template) options.stop = {"\nQuestion:"};
  options.stop_requested = [] { return base::interrupted(); };
  for (const auto& example : examples) {
    if (base::interrupted()) return base::fail("interrupted after {} of {} answers", done, examples.size());
    if (example.messages.size() < 2) continue;
    auto prompt = model.encode_chat({example.messages.begin(), example.messages.end() - 1}, true);
    if (!prompt) return base::pass(prompt);
    auto text = engine::generate(*loaded.engine, model.tokenizer, *prompt, options);
    if (!text) return base::pass(text);
    const auto& gold = example.messages.back().content;
    const auto score = engine::score_answer(text->text, {gold});
    exact += score.exact_match;
    f1 += score.f1;
    if (gold.find("Answer:") != std::string::npos || gold.find("答案") != std::string::npos) {
      ++numbers;
      right += engine::numeric_match(text->text, gold).value_or(false) ? 1 : 0;
    }
    ++done;
    if (!context.quiet) progress.update(static_cast<uint64_t>(done), fmt::format("F1 {:.3f}", f1 / static_cast<double>(done)));
  }
  if (done == 0) return {};
  out["exact_match"] = exact / static_cast<double>(done);
  out["f1"] = f1 / static_cast<double>(done);
  if (numbers > 0) out["numeric_match"] = static_cast<double>(right) / static_cast<double>(numbers);
  out["answers"] = done;
  return {};
}

std::string as_table(const Json& out) {
  std::string table;
  for (const auto& [key, value] : out.items()) {
    const std::string text = value.is_number_float() ? fmt::format("{:.4f}", value.get<double>())
                             : value.is_string()     ? value.get<std::string>()
                                                     : value.dump();
    table += fmt::format("{:<20} {}\n", key, text);
  }
  return table;
}

Status evaluate(const Arguments& a, const Context& context) {
  if (a.dataset.empty() == a.text.empty()) return base::refuse("give either --dataset (questions) or --text (a file to read)");
  if (a.text.empty() && (a.window != 0 || a.stride != 0)) return base::refuse("--window and --stride belong to --text");
  if (a.text.empty() && !a.reference.empty()) return base::refuse("--reference belongs to --text: models are compared on a text");
  if (!a.reference.empty() && a.stride != 0) return base::refuse("--stride does not go with --reference: each window is read from its beginning");
  if (a.limit < 0 || a.max_new_tokens < 1) return base::refuse("--limit must not be negative and --max_new_tokens must be 1 or more");
  if (auto reached = reach_device(a, context); !reached) return reached;
  std::vector<formats::Example> examples;
  Json out{{"model", a.model}};
  if (!a.adapter.empty()) out["adapter"] = a.adapter;
  if (!a.dataset.empty()) {
    auto dataset = formats::read_dataset(a.dataset);
    if (!dataset) return base::pass(dataset);
    examples = chosen(std::move(dataset->examples), a);
    if (examples.empty()) return base::refuse("{} has no rows of split '{}'", a.dataset, a.split);
    out["dataset"] = a.dataset;
    out["rows"] = examples.size();
  }
  auto model = load_for_inference(a.model, load_options(a, context), context);
  if (!model) return base::pass(model);
  if (!a.text.empty()) {
    const auto measure = a.reference.empty() ? text_perplexity : text_divergence;
    if (auto done = measure(a, *model, context, out); !done) return done;
  } else {
    if (auto done = answers_loss(a, *model, examples, context, out); !done) return done;
    if (!a.no_generate && !examples[0].messages.empty()) {
      if (auto done = generated_scores(a, *model, examples, context, out); !done) return done;
    }
  }
  if (a.profile && context.json) out["attention"] = reads_as_json(*model->engine);
  context.print(context.json ? out.dump() + "\n" : as_table(out));
  if (a.profile && !context.json) log_reads(*model->engine);
  return {};
}

}  // namespace

Command eval_command() {
  return {{"eval", "measure a model on questions or text", "deepseek-cli eval --model gemma-3-270m --dataset data/finance_qa.json --split test"},
          [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            add_engine_options(app, *a);
            add_profile_option(app, a->profile);
            app.add_option("--dataset", a->dataset, "questions with answers: loss, exact match, F1");
            app.add_option("--split", a->split, "only rows of this split: train, validation, test");
            app.add_option("--text", a->text, "a text file: perplexity");
            app.add_option("--reference", a->reference, "another model: KL divergence from it on --text, and how often both agree; it reads all keys, in bf16");
            app.add_option("--limit", a->limit, "rows; 0: all")->capture_default_str();
            app.add_option("--max_new_tokens", a->max_new_tokens, "length of an answer")->capture_default_str();
            app.add_flag("--no_generate", a->no_generate, "only the loss");
            app.add_option("--window", a->window, "tokens of context for --text; 0: up to 2,048")->capture_default_str();
            app.add_option("--stride", a->stride, "tokens between windows; 0: half of one")->capture_default_str();
            return std::function<Status()>([a, &context] { return evaluate(*a, context); });
          }};
}

}  // namespace deepseek::cli
