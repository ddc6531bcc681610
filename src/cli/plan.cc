// plan: decides about a model once, and writes the decision beside it.
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/signals.h"
#include "cli/command.h"
#include "engine/sparsity_plan.h"
#include "models/plan.h"

namespace deepseek::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string model, text, output;
  bool sparsity = false;
  engine::SparsityOptions options{.window = 0};
};

Json section_of(const engine::SparsityFound& found, const Arguments& a) {
  Json layers = Json::object();
  for (const auto& [layer, heads] : found.layers) layers[std::to_string(layer)] = heads.size() == 1 ? Json(heads[0]) : Json(heads);
  return {{"layers", layers},
          {"min_fidelity", a.options.min_fidelity},
          {"measured", {{"agreement", found.agreement}, {"keys_read", found.keys_read}, {"tokens", found.tokens}, {"window", a.options.window}, {"held_out", found.held_out}}}};
}

base::Status plan(Arguments a, const Context& context) {
  if (!a.sparsity) return base::refuse("say what to plan: --sparsity");
  if (a.text.empty()) return base::refuse("--text is missing: a file with text like the model's own use, some 20,000 tokens or more");
  auto text = models::open_model(a.model);
  if (!text) return base::pass(text);
  if (auto fits = models::require_decoder(*text); !fits) return fits;
  const auto file = a.output.empty() ? models::plan_path(text->path) : base::fs::path(a.output);
  if (auto place = models::check_plan_place(file); !place) return place;
  auto content = base::read_file(a.text, size_t{256} << 20);
  if (!content) return base::pass(content);
  if (a.options.window == 0) a.options.window = std::min<int64_t>(8192, text->config.max_position_embeddings);
  a.options.threads = context.threads;
  a.options.stop_requested = [] { return base::interrupted(); };
  if (!context.quiet) a.options.on_progress = [](int64_t passes, const std::string& now) { base::log_info(fmt::format("pass {}: {}", passes + 1, now)); };
  auto found = engine::plan_sparsity(*text, text->tokenizer.encode(*content), a.options);
  if (!found) return base::pass(found);
  const Json section = section_of(*found, a);
  if (auto done = models::write_plan_section(file, text->config, "sparsity", section); !done) return done;
  if (context.json) {
    context.print(Json{{"plan", file.string()}, {"sparsity", section}}.dump() + "\n");
    return {};
  }
  std::string table = fmt::format("{:<8} {}\n", "layer", "reads");
  for (const auto& [layer, heads] : found->layers) table += fmt::format("{:<8} {}\n", layer, fmt::join(heads, ", "));
  table += fmt::format("same next token as dense attention: {:.2f}% of {} positions from 2,048 on{}; keys read: {:.0f}%\n", 100 * found->agreement, found->tokens,
                       found->held_out ? " of text that the search did not see" : "", 100 * found->keys_read);
  context.print(table);
  if (!context.quiet) base::log_info(file.string() + "; generate, chat and eval obey it (--attention dense does not)");
  return {};
}

}  // namespace

Command plan_command() {
  return {{"plan", "decide which keys each layer needs, and keep it beside the model", "deepseek-cli plan --model gemma-3-270m --sparsity --min_fidelity 0.98 --text book.txt"},
          [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            app.add_option("--model", a->model, "name, directory or .gguf")->required();
            app.add_flag("--sparsity", a->sparsity, "how much of the attention each layer may leave unread");
            app.add_flag("--heads", a->options.heads, "a share for each head of a layer: takes as many steps as the model has heads there");
            app.add_option("--min_fidelity", a->options.min_fidelity, "share of positions whose most probable token stays the same")->capture_default_str();
            app.add_option("--text", a->text, "a text file to measure on; every other window of it only checks what was found");
            app.add_option("--window", a->options.window, "tokens that are read together; 0: 8,192 or the model's context")->capture_default_str();
            app.add_option("--dtype", a->options.dtype, "auto (as the file has its weights), f32 or bf16")->capture_default_str();
            app.add_option("--output", a->output, "the plan's file [plan.json beside the model]");
            return std::function<base::Status()>([a, &context] { return plan(*a, context); });
          }};
}

}  // namespace deepseek::cli
