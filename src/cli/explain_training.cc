// explain --train and --find_reliance: a model from a table, and what a model leans on more than it should.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/explain_arguments.h"
#include "cli/explain_training_text.h"
#include "explain/reliance/augment_table.h"
#include "explain/reliance/plan_augmentation.h"
#include "explain/reliance/proxies.h"
#include "explain/reliance/reliance.h"

namespace deepseek::cli {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;

constexpr size_t kMostProxies = 3;  // flagged features whose proxies are looked for

Result<explain::TrainTableOptions> training_options(const ExplainArguments& a, const Context& context) {
  auto learner = explain::learner_named(a.learner);
  if (!learner) return base::pass(learner);
  explain::TrainTableOptions o = a.training;
  o.learner = *learner;
  o.seed = a.request.options.seed;
  o.threads = context.threads;
  o.stop_requested = base::interrupted;
  return o;
}

// ---- reliance ----

struct Found {
  explain::Reliance reliance;
  std::vector<explain::ProxyReport> proxies;
  std::vector<std::string> flagged;  // features
};

Result<explain::GlobalExplanation> explain_model(const explain::TableExplanation& table, const ExplainArguments& a, const Context& context, const std::string& title) {
  auto global = explain_with_bar(table, rows_wanted(table, a), title, context);
  if (global && !global->stopped.empty()) return base::fail("{} after {} rows", global->stopped, global->rows.size());
  return global;
}

Result<explain::Reliance> reliance_of(const explain::TableExplanation& table, const ExplainArguments& a, const Context& context) {
  explain::RelianceOptions o{.confidence = a.request.options.confidence};
  if (!a.expect.empty()) {
    auto expected = explain::read_expectation(a.expect);
    if (!expected) return base::pass(expected);
    o.expected = std::move(*expected);
  }
  explain::GlobalExplanation reference;
  if (!a.reference.empty()) {
    explain::TableRequest request = a.request;
    request.model = a.reference;
    request.remember.clear();
    auto other = explain::TableExplanation::open(request);
    if (!other) return base::pass(other);
    const auto &mine = table.explainer().tree().nodes, &theirs = other->explainer().tree().nodes;
    const bool same = mine.size() == theirs.size() && std::equal(mine.begin(), mine.end(), theirs.begin(), [](const auto& x, const auto& y) { return x.name == y.name; });
    if (!same) return base::refuse("{} reads other features than {}, or in another order", a.reference, a.request.model);
    auto global = explain_model(*other, a, context, "the reference");
    if (!global) return base::pass(global);
    reference = std::move(*global);
    o.reference = &reference;
  }
  auto global = explain_model(table, a, context, "the model");
  if (!global) return base::pass(global);
  return explain::find_reliance(*global, table.explainer().tree(), o);
}

Result<Found> find(const explain::TableExplanation& table, const ExplainArguments& a, const Context& context) {
  auto reliance = reliance_of(table, a, context);
  if (!reliance) return base::pass(reliance);
  Found found{.reliance = std::move(*reliance)};
  const auto& nodes = table.explainer().tree().nodes;
  for (const explain::NodeReliance& node : found.reliance.nodes) {
    const auto& of = nodes[static_cast<size_t>(node.node)];
    const bool asked = a.feature.empty() ? node.flagged : of.name == a.feature;
    if (asked && of.feature >= 0 && found.flagged.size() < kMostProxies) found.flagged.push_back(of.name);
  }
  if (!a.feature.empty() && found.flagged.empty()) {
    std::vector<std::string> names;
    for (const auto& node : nodes) names.push_back(node.name);
    return base::refuse("the model has no feature '{}'{}", a.feature, base::is_meant(a.feature, names));
  }
  for (const std::string& feature : found.flagged) {
    if (!context.quiet) base::log_info("looking for what foretells " + feature);
    auto proxies = explain::find_proxies(table.table(), feature, {.target = table.target(), .seed = a.request.options.seed, .threads = context.threads, .stop_requested = base::interrupted});
    if (!proxies) return base::pass(proxies);
    found.proxies.push_back(std::move(*proxies));
  }
  return found;
}

Result<Json> plan_for(const explain::TableExplanation& table, const Found& found, const ExplainArguments& a, const Context& context) {
  if (table.target().empty()) return base::refuse("a plan needs --target: the column that the model foretells");
  if (found.flagged.empty()) return base::refuse("nothing is leaned on too much, so there is nothing to plan; name a feature with --feature to plan for it all the same");
  auto training = training_options(a, context);
  if (!training) return base::pass(training);
  explain::PlanOptions o{.target_reliance = a.target_reliance, .most_accuracy_lost = a.most_accuracy_lost, .proxies = &found.proxies.front(), .training = *training};
  const auto& nodes = table.explainer().tree().nodes;
  for (const explain::NodeReliance& node : found.reliance.nodes) {
    if (nodes[static_cast<size_t>(node.node)].name != found.flagged.front()) continue;
    o.expected = node.expected;
    o.found = node.share;
  }
  if (!context.quiet) o.on_trial = [](const std::string& trial) { base::log_info(trial); };
  return explain::plan_augmentation(table.table(), table.target(), found.flagged.front(), o);
}

}  // namespace

Status explain_training(ExplainArguments& a, const Context& context) {
  const std::string& target = a.request.target;
  if (a.data.empty() || target.empty() || a.output.empty()) return base::refuse("--train needs --data, --target (the column to foretell) and --output (a directory for the model)");
  auto options = training_options(a, context);
  if (!options) return base::pass(options);
  auto table = formats::read_table(a.data, a.request.columns);
  if (!table) return base::pass(table);
  if (!context.quiet) {
    for (const std::string& note : table->notes) base::log_warn(note);
    for (const std::string& note : explain::column_notes(*table, target)) base::log_warn(note);
  }
  explain::AugmentedTable augmented{.table = std::move(*table), .weights = {}, .sources = {}};
  if (!a.augment.empty()) {
    auto plan = explain::read_plan(a.augment);
    if (!plan) return base::pass(plan);
    auto more = explain::augment_table(augmented.table, target, *plan, options->seed);
    if (!more) return base::within(a.augment, more.error());
    augmented = std::move(*more);
    options->weights = augmented.weights;
    options->sources = augmented.sources;
  }
  std::unique_ptr<base::Progress> bar;
  if (!context.quiet) {
    options->on_progress = [&](int64_t round, int64_t rounds, double loss) {
      if (!bar) bar = std::make_unique<base::Progress>("training", static_cast<uint64_t>(rounds), "round");
      bar->update(static_cast<uint64_t>(round), fmt::format("loss {:.4f}", loss));
    };
  }
  auto report = explain::train_table(augmented.table, target, a.output, *options);
  bar.reset();
  if (!report) return base::pass(report);
  context.print(context.json ? Json{{"model", a.output}, {"report", *report}}.dump() + "\n" : training_text(*report, a.language == "zh"));
  if (!context.quiet) base::log_info(fmt::format("to explain it: deepseek-cli explain --model {} --data {}", a.output, a.data));
  return {};
}

Status explain_reliance(ExplainArguments& a, const Context& context) {
  if (!a.html.empty()) return base::refuse("--find_reliance writes no page; leave --html away");
  if (a.sample) return base::refuse("--find_reliance looks at many rows; leave --sample away");
  if (a.request.model.empty() || a.data.empty()) return base::refuse("--find_reliance needs --model and --data");
  a.request.options.pairs = 0;
  if (a.request.tree.empty() && a.groups.empty()) a.request.tree = "flat";
  auto table = explain::TableExplanation::open(a.request);
  if (!table) return base::pass(table);
  auto found = find(*table, a, context);
  if (!found) return base::pass(found);
  Json document{{"model", a.request.model}, {"data", a.data}, {"target", table->target()}, {"reliance", explain::reliance_json(found->reliance, table->explainer().tree())}, {"proxies", Json::array()}};
  for (const auto& report : found->proxies) document["proxies"].push_back(explain::proxies_json(report));
  if (!a.plan.empty()) {
    auto plan = plan_for(*table, *found, a, context);
    if (!plan) return base::pass(plan);
    if (auto written = base::write_file_atomically(a.plan, plan->dump(2) + "\n"); !written) return written;
    document["plan"] = std::move(*plan);
  }
  if (!a.output.empty()) {
    if (auto written = base::write_file_atomically(a.output, document.dump(2) + "\n"); !written) return written;
  }
  context.print(context.json ? document.dump() + "\n" : reliance_text(found->reliance, found->proxies, table->explainer().tree(), document.contains("plan") ? document["plan"] : Json(), a.language == "zh"));
  if (context.quiet) return {};
  if (a.expect.empty() && a.reference.empty()) base::log_info("nothing was expected, so nothing is too much: --expect FILE states largest shares, --reference MODEL names a model that does it right");
  if (!a.plan.empty()) base::log_info(fmt::format("to train with it: deepseek-cli explain --train --data {} --target {} --output MODEL --augment {}", a.data, table->target(), a.plan));
  return {};
}

void add_training_options(CLI::App& app, ExplainArguments& a) {
  app.add_flag("--train", a.train, "train a model on the data");
  app.add_option("--learner", a.learner, "of --train: trees or net")->capture_default_str();
  app.add_option("--held_out", a.training.held_out, "of --train: share of the rows that only judge")->capture_default_str();
  app.add_option("--rounds", a.training.rounds, "of --train: trees or epochs at most");
  app.add_option("--augment", a.augment, "of --train: plan of --find_reliance");
  app.add_flag("--find_reliance", a.find_reliance, "what the model leans on more than it should, and what stands for that");
  app.add_option("--expect", a.expect, "of --find_reliance: YAML or JSON with the largest share that a feature may have");
  app.add_option("--reference", a.reference, "of --find_reliance: a model that does it right");
  app.add_option("--feature", a.feature, "of --find_reliance: the feature in question [those that are flagged]");
  app.add_option("--plan", a.plan, "of --find_reliance: file for the plan of augmentation that lowers it");
  app.add_option("--target_reliance", a.target_reliance, "of --plan: share that is wanted [half of what there is]");
  app.add_option("--most_accuracy_lost", a.most_accuracy_lost, "of --plan: 0.01 is one point")->capture_default_str();
}

}  // namespace deepseek::cli
