// explain: why a model decided as it did, and what it leans on.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/progress.h"
#include "base/signals.h"
#include "cli/explain_arguments.h"
#include "explain/report/page.h"
#include "explain/report/text_report.h"

namespace deepseek::cli {
namespace {

using base::Status;
using Json = nlohmann::ordered_json;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  size_t from = 0;
  while (!text.empty()) {
    const size_t comma = text.find(',', from);
    parts.push_back(text.substr(from, comma - from));
    if (comma == std::string::npos) break;
    from = comma + 1;
  }
  return parts;
}

Status check(const ExplainArguments& a) {
  if (a.language != "en" && a.language != "zh") return base::refuse("there is no language '{}'; there are en and zh", a.language);
  if (!a.html.empty() && !explain::has_page()) return base::refuse("this build carries no page (it was made without npm); leave --html away");
  if (a.sample && a.rows) return base::refuse("--sample explains one row and --rows many; give one of them");
  if (a.index != "SII" && a.index != "k-SII" && a.index != "Faith-SHAP") return base::refuse("there is no index '{}'; there are SII, k-SII and Faith-SHAP", a.index);
  if (a.rows && *a.rows < 0) return base::refuse("--rows is {}; use 1 or more, or 0 for all", *a.rows);
  return {};
}

// Options that would do nothing beside, or without, another are refused: who gave them expects something of them.
Status check_companions(const CLI::App& app) {
  const auto given = [&](const std::string& name) { return app.get_option(name)->count() > 0; };
  const std::pair<const char*, std::vector<const char*>> of[] = {
      {"--train", {"--learner", "--held_out", "--rounds", "--augment"}},
      {"--find_reliance", {"--expect", "--reference", "--feature", "--plan"}},
      {"--plan", {"--target_reliance", "--most_accuracy_lost"}},
      {"--prompt", {"--answer", "--chat", "--system", "--filler"}},
      {"--image", {"--size", "--channels", "--mean", "--std", "--classes", "--regions", "--hidden_as", "--overlay"}},
  };
  for (const auto& [owner, options] : of) {
    for (const char* option : options) {
      const bool of_plan = owner == std::string_view("--train") && option != std::string_view("--augment") && given("--plan");  // a plan trains too
      if (given(option) && !given(owner) && !of_plan) return base::refuse("{} belongs to {}, which was not given", option, owner);
    }
  }
  for (const char* option : {"--model", "--sample", "--rows", "--groups", "--tree", "--html"}) {
    if (given("--train") && !given("--find_reliance") && given(option)) return base::refuse("--train makes a model and explains nothing: leave {} away and give it to the explanation that follows", option);
  }
  return {};
}

Status take_options(ExplainArguments& a, const Context& context) {
  auto& r = a.request;
  r.data = a.data;
  r.background_data = a.background_data;
  r.groups = a.groups;
  r.scorer.schema = a.schema;
  r.remember = a.resume;
  r.columns.names = split(a.columns);
  auto worth = explain::worth_named(a.worth);
  if (!worth) return base::pass(worth);
  auto engine = explain::engine_named(a.engine);
  if (!engine) return base::pass(engine);
  r.options.worth = *worth;
  r.options.engine = *engine;
  r.options.index = a.index == "Faith-SHAP" ? explain::InteractionIndex::kFaith : explain::InteractionIndex::kShapley;
  r.index = a.index;
  r.options.threads = context.threads;
  r.scorer.stop_requested = base::interrupted;
  return {};
}

Status explain_rows(explain::TableExplanation& table, ExplainArguments& a, const Context& context) {
  const int64_t most = rows_wanted(table, a);
  const int64_t total = std::min(most, table.rows());
  auto global = explain_with_bar(table, most, "explaining", context);
  if (!global && global.error().kind == base::ErrorKind::kRequest) return base::pass(global);
  const explain::Engine engine = table.explainer().engine();
  const bool asks = engine != explain::Engine::kTrees && engine != explain::Engine::kLinear;
  const std::string again = !asks ? "" : a.resume.empty() ? "; with --resume FILE the scores of the next run would be kept" : "; the scores so far are in " + a.resume + ": the same command goes on from there";
  if (!global) return base::fail("{}{}", global.error().message, again);
  if (auto done = hand_out(table.document(*global, most), a, context); !done) return done;
  if (!global->stopped.empty()) return base::fail("{} after {} of {} rows, which are in the report{}", global->stopped, global->rows.size(), total, again);
  return {};
}

Status explain_table(ExplainArguments& a, const Context& context) {
  if (a.request.model.empty()) return base::refuse("--model is missing: a model file, a directory of --train, command:PROGRAM or http://...");
  if (a.data.empty()) return base::refuse("--data is missing: a CSV file with the rows to explain");
  auto table = explain::TableExplanation::open(a.request);
  if (!table) return base::pass(table);
  if (!a.sample) return explain_rows(*table, a, context);
  auto document = table->explain_sample(*a.sample);
  if (!document) return base::pass(document);
  return hand_out(*document, a, context);
}

Status explain_command_work(ExplainArguments& a, const Context& context) {
  if (auto ok = check(a); !ok) return ok;
  if (auto ok = take_options(a, context); !ok) return ok;
  const int modes = static_cast<int>(a.train) + static_cast<int>(a.find_reliance) + static_cast<int>(!a.prompt.prompt.empty()) + static_cast<int>(!a.image.empty());
  if (modes > 1) return base::refuse("--train, --find_reliance, --prompt and --image are different work; give one of them");
  if (a.train) return explain_training(a, context);
  if (a.find_reliance) return explain_reliance(a, context);
  if (!a.prompt.prompt.empty()) return explain_prompt(a, context);
  return a.image.empty() ? explain_table(a, context) : explain_image(a, context);
}

void add_model_options(CLI::App& app, ExplainArguments& a) {
  auto& r = a.request;
  app.add_option("--model", r.model, "trees (XGBoost .json .ubj, LightGBM .txt), .onnx, TorchScript .pt, linear .json, a directory of --train, command:PROGRAM, http://...");
  app.add_option("--data", a.data, "CSV or TSV: the rows to explain");
  app.add_option("--columns", a.columns, "names of the columns, comma between them, where the file has no header");
  app.add_option("--target", r.target, "column that the model foretells; it is no feature");
  app.add_option("--schema", a.schema, "JSON with the model's features, categories and classes");
  app.add_option("--class", r.output, "output of the model to explain: a name or a number");
  app.add_option("--units", r.units, "what the scores are where the model does not say: probability, log-odds, log");
  app.add_option("--timeout", r.scorer.timeout, "seconds that a program or server may take for a batch")->capture_default_str();
  app.add_option("--retries", r.scorer.retries, "after a program or server failed")->capture_default_str();
  app.add_option("--batch", r.scorer.batch, "rows that a program or server gets at a time")->capture_default_str();
  app.add_option("--resume", a.resume, "file that keeps the model's scores: a run that was cut short goes on");
}

void add_method_options(CLI::App& app, ExplainArguments& a) {
  auto& o = a.request.options;
  app.add_option("--sample", a.sample, "row of the data to explain; 0 is the first [all]");
  app.add_option("--rows", a.rows, "how many rows, drawn by the seed; 0: all [500, or 50 where each takes many model calls]");
  app.add_option("--groups", a.groups, "YAML or JSON with groups of features");
  app.add_option("--tree", a.request.tree, "flat, clustered, groups or hybrid [groups where there are any, clustered otherwise]");
  app.add_option("--cluster_distance", a.request.highest, "1 - dependence up to which features are clustered")->capture_default_str();
  app.add_option("--background", o.background, "rows that stand for unknown features")->capture_default_str();
  app.add_option("--background_data", a.background_data, "CSV that they come from [the data]");
  app.add_option("--worth", a.worth, "marginal, conditional, or path (trees)")->capture_default_str();
  app.add_option("--engine", a.engine, "auto, exact, trees, linear, gradients or estimate")->capture_default_str();
  app.add_option("--budget", o.budget, "coalitions that may be asked for a row [2 a feature and 2048]");
  app.add_option("--precision", o.precision, "stop where every interval is as narrow, in units of the score");
  app.add_option("--confidence", o.confidence, "of the intervals")->capture_default_str();
  app.add_option("--pairs", o.pairs, "strongest interactions; 0: none")->capture_default_str();
  app.add_option("--index", a.index, "of interactions: SII, k-SII or Faith-SHAP")->capture_default_str();
  app.add_option("--seed", o.seed, "the same seed gives the same report")->capture_default_str();
}

}  // namespace

int64_t rows_wanted(const explain::TableExplanation& table, const ExplainArguments& a) { return !a.rows ? table.usual_rows() : *a.rows == 0 ? table.rows() : *a.rows; }

Status hand_out(const Json& document, const ExplainArguments& a, const Context& context) {
  if (!a.html.empty()) {
    auto page = explain::html_page(document, a.language);
    if (!page) return base::pass(page);
    if (auto written = base::write_file_atomically(a.html, *page); !written) return written;
  }
  if (!a.output.empty()) {
    if (auto written = base::write_file_atomically(a.output, document.dump(2) + "\n"); !written) return written;
  }
  context.print(context.json ? document.dump() + "\n" : explain::text_report(document, a.language));
  if (!context.quiet && !a.html.empty()) base::log_info("the page: " + a.html);
  return {};
}

base::Result<explain::GlobalExplanation> explain_with_bar(const explain::TableExplanation& table, int64_t most, const std::string& title, const Context& context) {
  std::unique_ptr<base::Progress> bar;
  if (!context.quiet) bar = std::make_unique<base::Progress>(title, static_cast<uint64_t>(std::min(most, table.rows())), "row");
  return table.explain_rows(most, [&](int64_t done) { if (bar) bar->update(static_cast<uint64_t>(done)); }, base::interrupted);
}

Command explain_command() {
  return {kExplain, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<ExplainArguments>();
            add_model_options(app, *a);
            add_method_options(app, *a);
            app.add_option("--output", a->output, "file for the report as JSON; of --train: directory for the model");
            app.add_option("--html", a->html, "file for the report as a page");
            app.add_option("--language", a->language, "en or zh")->capture_default_str();
            add_training_options(app, *a);
            add_media_options(app, *a);
            return std::function<Status()>([a, &app, &context] {
              if (auto ok = check_companions(app); !ok) return ok;
              return explain_command_work(*a, context);
            });
          },
          true};
}

}  // namespace deepseek::cli
