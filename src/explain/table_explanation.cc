#include "explain/table_explanation.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "base/text.h"
#include "explain/dependence.h"
#include "explain/groups_file.h"
#include "explain/scorers/score_memory.h"
#include "explain/table_schema.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;
using Link = TreeEnsemble::Link;

constexpr int64_t kCheapRows = 500, kSampledRows = 50;
constexpr size_t kRefineAbove = 8;  // features of one group that a hybrid tree clusters
constexpr size_t kMostClustered = 5000;  // features: the distances of more do not fit in 200 MB

std::string units_of(const TableModel& model) {
  switch (model.link) {
    case Link::kLogistic: return "log-odds";
    case Link::kExponential: return "log";
    default: return "score";
  }
}

Status apply_units(const std::string& units, TableModel& model) {
  if (units.empty()) return {};
  if (units != "probability" && units != "log-odds" && units != "log" && units != "score") return base::refuse("there are no units '{}'; there are score, probability, log-odds, log", units);
  if (model.link != Link::kIdentity && units != units_of(model)) return base::refuse("the model gives {}; units are only stated where a model does not say", units_of(model));
  if (units == "log-odds") model.link = Link::kLogistic;
  if (units == "log") model.link = Link::kExponential;
  return {};
}

Json input_of(const FeatureText& feature, double value) {
  if (std::isnan(value)) return nullptr;
  return feature.categories.empty() ? Json(value) : Json(display(feature, value));
}

// All that it takes to try a model.
formats::Table first_row(const formats::Table& table) {
  formats::Table first{.rows = 1};
  for (const formats::Column& column : table.columns) first.columns.push_back({.name = column.name, .categories = column.categories, .values = {column.values.front()}});
  return first;
}

// What the scores depend on besides the rows.
std::string identity_of(const TableRequest& request, const TableModel& model) {
  std::string identity = request.model + "\n" + model.kind;
  std::error_code none;
  const base::fs::path path = request.model;
  std::vector<base::fs::path> files;
  if (base::fs::is_regular_file(path, none)) files.push_back(path);
  for (base::fs::directory_iterator at(path, none), end; !none && at != end; at.increment(none)) files.push_back(at->path());  // what training wrote
  std::sort(files.begin(), files.end());
  for (const base::fs::path& file : files) {
    identity += fmt::format("\n{} {} {}", file.filename().string(), base::fs::file_size(file, none), base::fs::last_write_time(file, none).time_since_epoch().count());
  }
  for (const FeatureText& feature : model.features) {
    identity += "\n" + feature.name;
    for (const std::string& category : feature.categories) identity += "\t" + category;
  }
  return identity;
}

}  // namespace

Result<TableExplanation> TableExplanation::open(const TableRequest& request) {
  TableExplanation made;
  made.options_ = request.options;
  auto table = formats::read_table(request.data, request.columns);
  if (!table) return base::pass(table);
  made.table_ = std::move(*table);
  made.origin_.notes = made.table_.notes;
  TableModel model;
  std::vector<double> other;  // background; empty: the table's rows are it
  if (Status opened = made.open_model(request, model); !opened) return base::pass(opened);
  if (!request.background_data.empty()) {
    auto background = formats::read_table(request.background_data, request.columns);
    if (!background) return base::pass(background);
    const std::string name = request.background_data.filename().string();
    auto rows = rows_of(*background, model.features);
    if (!rows) return base::within(name, rows.error());
    other = std::move(rows->rows);
    background->notes.insert(background->notes.end(), rows->notes.begin(), rows->notes.end());
    for (const std::string& note : background->notes) made.origin_.notes.push_back(name + ": " + note);
  }
  if (Status chosen = made.choose_output(request.output, model); !chosen) return base::pass(chosen);
  const std::span<const double> background = other.empty() ? made.rows_ : other;
  auto tree = made.tree_for(request, background);
  if (!tree) return base::pass(tree);
  auto explainer = Explainer::create(std::move(model), std::move(*tree), background, made.options_);
  if (!explainer) return base::pass(explainer);
  made.explainer_.emplace(std::move(*explainer));
  made.describe(request);
  return made;
}

// The model, its features as it has them or as the table has them, and the rows in its codes.
Status TableExplanation::open_model(const TableRequest& request, TableModel& model) {
  auto schema = schema_of(table_, request.target);
  if (!schema) return base::pass(schema);
  ScorerOptions scorer = request.scorer;
  scorer.features = schema->features;
  scorer.target = request.target;
  if (auto own = rows_of(first_row(table_), schema->features); own) scorer.probe = std::move(own->rows);
  auto opened = open_table_model(request.model, scorer);
  if (!opened) return base::pass(opened);
  model = std::move(*opened);
  target_ = request.target.empty() && table_.find(model.target) != nullptr ? model.target : request.target;
  if (model.features.empty()) model.features = std::move(schema->features);
  const bool is_feature = std::any_of(model.features.begin(), model.features.end(), [&](const FeatureText& feature) { return feature.name == target_; });
  if (is_feature && !model.target.empty()) return base::refuse("'{}' is a feature of the model, which foretells '{}'; leave --target away", target_, model.target);
  features_ = model.features;
  if (Status fits = apply_units(request.units, model); !fits) return fits;
  auto rows = rows_of(table_, model.features);
  if (!rows) return base::pass(rows);
  rows_ = std::move(rows->rows);
  origin_.notes.insert(origin_.notes.end(), rows->notes.begin(), rows->notes.end());
  if (request.scorer.stop_requested) {
    model.score = [score = std::move(model.score), stop = request.scorer.stop_requested](std::span<const double> rows) -> Result<std::vector<double>> {
      if (stop()) return base::fail("interrupted");
      return score(rows);
    };
    if (model.gradient) {
      model.gradient = [gradient = std::move(model.gradient), stop = request.scorer.stop_requested](std::span<const double> rows, int64_t output) -> Result<std::vector<double>> {
        if (stop()) return base::fail("interrupted");
        return gradient(rows, output);
      };
    }
  }
  if (request.remember.empty()) return {};
  auto remembering = remember_scores(model, request.remember, identity_of(request, model));
  if (!remembering) return base::pass(remembering);
  model = std::move(*remembering);
  return {};
}

Status TableExplanation::choose_output(const std::string& output, const TableModel& model) {
  options_.output = 0;
  output_chosen_ = !output.empty() || model.outputs.size() == 1;
  if (output.empty()) return {};
  const auto named = std::find(model.outputs.begin(), model.outputs.end(), output);
  if (named != model.outputs.end()) {
    options_.output = named - model.outputs.begin();
    return {};
  }
  int64_t number = -1;
  const auto [end, error] = std::from_chars(output.data(), output.data() + output.size(), number);
  if (error == std::errc() && end == output.data() + output.size() && number >= 0 && number < static_cast<int64_t>(model.outputs.size())) {
    options_.output = number;
    return {};
  }
  std::string names;
  for (size_t i = 0; i < std::min<size_t>(model.outputs.size(), 10); ++i) names += (i == 0 ? "'" : ", '") + model.outputs[i] + "'";
  if (model.outputs.size() > 10) names += ", ...";
  return base::refuse("the model has no output '{}'; it has {}", output, names);
}

Result<FeatureTree> TableExplanation::tree_for(const TableRequest& request, std::span<const double> background) const {
  const auto names = names_of(features_);
  std::string kind = request.tree;
  if (kind.empty()) kind = !request.groups.empty() ? "groups" : features_.size() > kMostClustered ? "flat" : "clustered";
  if (kind != "flat" && kind != "clustered" && kind != "groups" && kind != "hybrid") return base::refuse("there is no tree '{}'; there are flat, clustered, groups and hybrid", kind);
  const bool wants_groups = kind == "groups" || kind == "hybrid";
  if (wants_groups && request.groups.empty()) return base::refuse("the tree '{}' needs a file of groups", kind);
  if (!wants_groups && !request.groups.empty()) return base::refuse("the tree '{}' takes no groups; leave the file or the tree away, or take 'hybrid'", kind);
  if (!(request.highest >= 0 && request.highest <= 1)) return base::refuse("features are clustered up to a distance between 0 and 1; {} is not", request.highest);
  if (kind == "flat") return flat_tree(names);
  Json groups;
  if (wants_groups) {
    auto read = read_groups(request.groups);
    if (!read) return base::pass(read);
    groups = std::move(*read);
  }
  const auto in_file = [&](Result<FeatureTree> tree) -> Result<FeatureTree> {
    if (!tree) return base::within(request.groups.string(), tree.error());
    return tree;
  };
  if (kind == "groups") return in_file(tree_of_groups(groups, names));
  if (features_.size() > kMostClustered) return base::refuse("{} features are too many to cluster; {} are not", features_.size(), kMostClustered);
  const auto distance = feature_distance(background, category_flags(features_), {.seed = request.options.seed});
  if (kind == "hybrid") return in_file(hybrid_tree(groups, distance, names, request.highest, kRefineAbove));
  return clustered_tree(distance, names, request.highest);
}

void TableExplanation::describe(const TableRequest& request) {
  const TableModel& model = explainer_->model();
  const bool gradients = explainer_->engine() == Engine::kGradients;
  Origin& o = origin_;
  o.model = request.model;
  o.kind = model.kind;
  o.output = model.outputs[static_cast<size_t>(options_.output)];
  o.outputs = static_cast<int64_t>(model.outputs.size());
  o.units = request.units == "probability" ? request.units : units_of(model);
  o.data = request.data.filename().string();
  o.target = target_;
  o.data_rows = table_.rows;
  o.background_rows = explainer_->background_rows();
  o.engine = explainer_->engine_text();
  o.worth = options_.worth == Worth::kPath ? "path dependent" : options_.worth == Worth::kConditional ? "conditional" : o.background_rows == 1 ? "baseline" : "marginal";
  o.values = gradients ? "mean gradients along paths from the background, times the distance" : explainer_->tree().is_flat() ? "Shapley" : "Winter";
  const bool pairs = options_.pairs > 0 && !gradients && explainer_->engine() != Engine::kLinear;
  o.interactions = pairs ? request.index : "";
  o.confidence = options_.confidence;
  o.seed = options_.seed;
  if (explainer_->engine() == Engine::kLinear) o.notes.emplace_back("a linear model has no interactions");
}

int64_t TableExplanation::usual_rows() const {
  const Engine engine = explainer_->engine();
  return engine == Engine::kTrees || engine == Engine::kLinear ? kCheapRows : kSampledRows;
}

std::vector<int64_t> TableExplanation::chosen_rows(int64_t most) const { return base::some_of(rows(), most, options_.seed + 2); }  // not the background's draw

std::vector<double> TableExplanation::picked(const std::vector<int64_t>& rows) const {
  return rows_at(rows_, static_cast<int64_t>(features_.size()), rows);
}

// What the scores of a row mean for the output that is explained.
std::optional<double> TableExplanation::prediction(std::span<const double> scores) const {
  const double score = scores[static_cast<size_t>(options_.output)];
  switch (explainer_->model().link) {
    case Link::kLogistic: return 1 / (1 + std::exp(-score));
    case Link::kExponential: return std::exp(score);
    case Link::kSoftmax: return softmax_of(scores, static_cast<size_t>(options_.output));
    default: return std::nullopt;
  }
}

std::vector<SampleText> TableExplanation::texts(const std::vector<int64_t>& rows) const {
  const size_t n = features_.size();
  const formats::Column* target = table_.find(target_);
  std::vector<SampleText> samples;
  for (const int64_t r : rows) {
    SampleText sample{.sample = r};
    for (size_t j = 0; j < n; ++j) sample.inputs.push_back(input_of(features_[j], rows_[static_cast<size_t>(r) * n + j]));
    if (target != nullptr && !std::isnan(target->values[static_cast<size_t>(r)])) {
      sample.actual = display({.name = target->name, .categories = target->categories}, target->values[static_cast<size_t>(r)]);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

Result<Json> TableExplanation::explain_sample(int64_t sample) {
  if (sample < 0 || sample >= rows()) return base::refuse("there is no row {}; {} has rows 0 to {}", sample, origin_.data, rows() - 1);
  const auto row = picked({sample});
  auto scores = explainer_->model().score(row);
  if (!scores) return base::pass(scores);
  if (scores->size() != explainer_->model().outputs.size()) return base::fail("{} gave {} scores for one row, not {}", origin_.model, scores->size(), explainer_->model().outputs.size());
  if (!output_chosen_) {
    options_.output = std::max_element(scores->begin(), scores->end()) - scores->begin();
    if (Status ok = explainer_->choose_output(options_.output); !ok) return base::pass(ok);
    origin_.output = explainer_->model().outputs[static_cast<size_t>(options_.output)];
  }
  auto local = explainer_->explain(row);
  if (!local) return base::pass(local);
  SampleText text = texts({sample}).front();
  text.prediction = prediction(*scores);
  Origin origin = origin_;
  if (!local->precise) origin.notes.push_back(fmt::format("the precision of {} was not reached within {} coalitions", options_.precision, local->asked));
  if (local->gap != 0) origin.notes.push_back(fmt::format("the values miss {:.3g} of the score: what categories, missing values and the sampled gradients leave open", local->gap));
  return document_of(origin, explainer_->tree(), *local, text);
}

Result<GlobalExplanation> TableExplanation::explain_rows(int64_t most, const std::function<void(int64_t)>& on_progress, const std::function<bool()>& stop_requested) const {
  return explainer_->explain_all(picked(chosen_rows(most)), on_progress, stop_requested);
}

Json TableExplanation::document(const GlobalExplanation& global, int64_t most) const {
  std::vector<int64_t> rows = chosen_rows(most);
  rows.resize(std::min(rows.size(), global.rows.size()));
  Origin origin = origin_;
  if (!global.stopped.empty()) origin.notes.push_back(fmt::format("only {} of {} rows: {}", rows.size(), chosen_rows(most).size(), global.stopped));
  if (!output_chosen_) origin.notes.push_back(fmt::format("of {} outputs this is '{}'", origin.outputs, origin.output));
  const auto unsure = std::count_if(global.rows.begin(), global.rows.end(), [](const LocalExplanation& row) { return !row.precise; });
  if (unsure > 0) origin.notes.push_back(fmt::format("in {} rows the precision of {} was not reached", unsure, options_.precision));
  return document_of(origin, explainer_->tree(), global, texts(rows));
}

}  // namespace deepseek::explain
