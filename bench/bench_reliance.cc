// Training, bias source finding and augmentation on real data: census income, with a reliance on `occupation` planted into a known share of the labels.
//   deepseek-bench-reliance ADULT_CSV [LEARNER=trees] [PLANTED=0.3] [SEED=0] [PLAN]     PLAN: a file to obey instead of the plan that it makes
// Prints one JSON object: what training reached and took, what find_reliance() flags against a model of the unplanted table, proxies, the plan, and what it costs on planted and on clean labels.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/random.h"
#include "explain/reliance/augment_table.h"
#include "explain/reliance/plan_augmentation.h"
#include "explain/reliance/proxies.h"
#include "explain/reliance/reliance.h"
#include "explain/training/train_table.h"
#include "program.h"

namespace {

using namespace deepseek;
using namespace deepseek::explain;
using bench::sure;
using formats::Table;
using Json = nlohmann::ordered_json;

constexpr const char* kTarget = "income";
constexpr const char* kFeature = "occupation";

Table read_adult(const std::string& path) {
  return sure(formats::read_table(path, {.names = {"age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race", "sex", "capital_gain", "capital_loss",
                                                   "hours_per_week", "native_country", kTarget}}));
}

formats::Column& column(Table& table, const std::string& name) {
  for (auto& c : table.columns) {
    if (c.name == name) return c;
  }
  throw std::runtime_error("no column " + name);
}

// In a share of the rows managers and professionals earn more than 50K, and nobody else does.
Table planted(Table table, double share, uint64_t seed) {
  const formats::Column jobs = column(table, kFeature);
  formats::Column& income = column(table, kTarget);
  base::SplitMix64 draw{seed + 77};
  for (size_t r = 0; r < income.values.size(); ++r) {
    if (draw.uniform() >= share || std::isnan(jobs.values[r])) continue;
    const std::string& job = jobs.categories[static_cast<size_t>(jobs.values[r])];
    income.values[r] = job == "Exec-managerial" || job == "Prof-specialty" ? 1 : 0;
  }
  return table;
}

struct Explained {
  GlobalExplanation global;
  FeatureTree tree;
};

Explained explained(const FittedTable& model, const Table& table) {
  const auto rows = sure(rows_of(table, model.model.features)).rows;
  const size_t width = model.model.features.size(), count = std::min<size_t>(model.model.trees ? 1000 : 100, model.held_out.size());
  std::vector<double> some;
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) some.insert(some.end(), rows.begin() + model.held_out[i] * static_cast<int64_t>(width), rows.begin() + (model.held_out[i] + 1) * static_cast<int64_t>(width));
  for (const auto& feature : model.model.features) names.push_back(feature.name);
  const auto explainer = sure(Explainer::create(model.model, flat_tree(names), rows, {.background = model.model.trees ? 100 : 50, .budget = model.model.trees ? 0 : 300, .pairs = 0}));
  return {.global = sure(explainer.explain_all(some)), .tree = explainer.tree()};
}

double accuracy_on(const FittedTable& model, const Table& table) {
  const auto rows = sure(rows_of(table, model.model.features)).rows;
  const auto scores = sure(model.model.score(rows));
  double right = 0;
  for (const int64_t r : model.held_out) right += (scores[static_cast<size_t>(r)] > 0) == (table.find(kTarget)->values[static_cast<size_t>(r)] == 1) ? 1 : 0;
  return right / static_cast<double>(model.held_out.size());
}

Json timed(const char* name, Json& out, const std::function<Json()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  Json found = body();
  out[name] = found;
  out[name]["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return found;
}

Json top(const Json& list, size_t most) {
  Json some = Json::array();
  for (size_t i = 0; i < std::min(most, list.size()); ++i) some.push_back(list[i]);
  return some;
}

Json run(const std::string& path, const std::string& learner, double share, uint64_t seed, const std::string& plan_file) {
  const Table clean = read_adult(path), biased = planted(clean, share, seed);
  TrainTableOptions training{.learner = sure(learner_named(learner)), .seed = seed};
  Json out;
  FittedTable reference, again, model, better;
  timed("train_clean", out, [&] { return (reference = sure(fit_table(clean, kTarget, training))).report; });
  TrainTableOptions other = training;
  other.seed = seed + 1;
  timed("train_clean_other_seed", out, [&] { return (again = sure(fit_table(clean, kTarget, other))).report; });
  timed("train_planted", out, [&] { return (model = sure(fit_table(biased, kTarget, training))).report; });
  const Explained of_reference = explained(reference, clean), of_again = explained(again, clean), of_model = explained(model, biased);
  const auto against = [&](const Explained& one) { return reliance_json(sure(find_reliance(one.global, one.tree, {.reference = &of_reference.global})), one.tree); };
  timed("reliance_other_seed", out, [&] { return Json{{"first", top(against(of_again), 4)}}; });
  timed("reliance_planted", out, [&] { return Json{{"first", top(against(of_model), 4)}}; });
  ProxyReport proxies;
  if (plan_file.empty()) timed("proxies", out, [&] { return proxies_json(proxies = sure(find_proxies(biased, kFeature, {.target = kTarget, .seed = seed}))); });
  Json plan;
  timed("plan", out, [&] {
    if (!plan_file.empty()) return plan = sure(read_plan(plan_file));
    return plan = sure(plan_augmentation(biased, kTarget, kFeature, {.proxies = &proxies, .training = training, .on_trial = [](const std::string& line) { base::log_info(line); }}));
  });
  const auto augmented = sure(augment_table(biased, kTarget, plan, seed));
  training.weights = augmented.weights;
  training.sources = augmented.sources;
  timed("train_augmented", out, [&] { return (better = sure(fit_table(augmented.table, kTarget, training))).report; });
  const Explained of_better = explained(better, biased);
  timed("reliance_augmented", out, [&] { return Json{{"first", top(against(of_better), 4)}}; });
  out["accuracy"] = {{"planted_labels", {{"before", accuracy_on(model, biased)}, {"after", accuracy_on(better, biased)}}},
                     {"clean_labels", {{"before", accuracy_on(model, clean)}, {"after", accuracy_on(better, clean)}, {"reference", accuracy_on(reference, clean)}}}};
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) throw std::runtime_error("usage: deepseek-bench-reliance ADULT_CSV [trees|net] [PLANTED] [SEED] [PLAN]");
    std::cout << run(argv[1], argc > 2 ? argv[2] : "trees", argc > 3 ? std::stod(argv[3]) : 0.3, argc > 4 ? std::stoull(argv[4]) : 0, argc > 5 ? argv[5] : "").dump(1) << "\n";
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
