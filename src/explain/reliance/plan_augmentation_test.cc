// The whole way on a table with a planted dependence: reliance found, proxies named, a plan that cuts it.
#include "explain/reliance/plan_augmentation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "explain/reliance/augment_table.h"
#include "explain/reliance/planted.h"
#include "explain/reliance/reliance.h"

namespace deepseek::explain {
namespace {

using formats::Table;
using Json = nlohmann::ordered_json;

#ifdef DEEPSEEK_HAVE_XGBOOST

struct Explained {
  GlobalExplanation global;
  FeatureTree tree;
};

Explained explained(const FittedTable& model, const Table& table) {
  auto rows = rows_of(table, model.model.features)->rows;
  std::vector<std::string> names;
  for (const auto& feature : model.model.features) names.push_back(feature.name);
  auto explainer = Explainer::create(model.model, flat_tree(names), rows, {.background = 30, .pairs = 0});
  rows.resize(200 * names.size());
  return {.global = *explainer->explain_all(rows), .tree = explainer->tree()};
}

double share_of(const FittedTable& model, const Table& table, const std::string& feature) {
  const auto one = explained(model, table);
  const auto found = find_reliance(one.global, one.tree);
  for (const auto& node : found->nodes) {
    if (one.tree.nodes[static_cast<size_t>(node.node)].name == feature) return node.share;
  }
  return NAN;
}

double accuracy_on(const FittedTable& model, const Table& labels) {
  const auto scores = *model.model.score(rows_of(labels, model.model.features)->rows);
  double right = 0;
  for (const int64_t r : model.held_out) right += (scores[static_cast<size_t>(r)] > 0) == (labels.find("hired")->values[static_cast<size_t>(r)] == 1) ? 1 : 0;
  return right / static_cast<double>(model.held_out.size());
}

TEST(PlanAugmentation, FindsNamesAndCutsAPlantedReliance) {
  const Table clean = planted_table(4000, 0, 1), biased = planted_table(4000, 0.3, 1);
  const auto reference = *fit_table(clean, "hired"), model = *fit_table(biased, "hired");
  const auto of_reference = explained(reference, clean), of_model = explained(model, biased);
  const auto reliance = find_reliance(of_model.global, of_model.tree, {.reference = &of_reference.global});
  ASSERT_TRUE(reliance) << reliance.error().message;
  EXPECT_EQ(of_model.tree.nodes[static_cast<size_t>(reliance->nodes[0].node)].name, "job");
  EXPECT_TRUE(reliance->nodes[0].flagged);
  EXPECT_LT(reliance->nodes[1].excess, 0.3 * reliance->nodes[0].excess) << "its proxy, at most";

  const auto proxies = find_proxies(biased, "job", {.target = "hired"});
  ASSERT_TRUE(proxies) << proxies.error().message;
  ASSERT_FALSE(proxies->proxies.empty());
  EXPECT_EQ(proxies->proxies[0].feature, "school");
  EXPECT_GT(proxies->proxies[0].share, 0.7);

  std::vector<std::string> log;
  const auto plan = plan_augmentation(biased, "hired", "job", {.expected = 0.05, .proxies = &*proxies, .on_trial = [&](const std::string& line) { log.push_back(line); }});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_FALSE(log.empty());
  EXPECT_EQ((*plan)["proxies"][0]["feature"], "school");
  EXPECT_EQ((*plan)["measured"]["reached"], true) << plan->dump(1);
  EXPECT_EQ((*plan)["expected"], 0.05);

  const auto augmented = augment_table(biased, "hired", Json::parse(plan->dump()));
  ASSERT_TRUE(augmented) << augmented.error().message;
  const auto better = *fit_table(augmented->table, "hired", {.weights = augmented->weights, .sources = augmented->sources});
  EXPECT_EQ(better.held_out, model.held_out);
  EXPECT_LT(share_of(better, biased, "job"), 0.55 * share_of(model, biased, "job")) << plan->dump(1);
  EXPECT_GT(accuracy_on(better, biased), accuracy_on(model, biased) - 0.0101);
  EXPECT_GT(accuracy_on(better, clean), accuracy_on(model, clean) - 0.01);
}

TEST(PlanAugmentation, SaysWhereTheWantedRelianceWasNotReached) {
  const Table biased = planted_table(1500, 0.6, 2);
  const auto plan = plan_augmentation(biased, "hired", "job", {.target_reliance = 0.001, .most_accuracy_lost = 0.0, .training = {.rounds = 15}, .explained = 50, .background = 20});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ((*plan)["measured"]["reached"], false);
  const auto before = (*plan)["measured"]["before"], after = (*plan)["measured"]["after"];
  EXPECT_LE(after["reliance"], before["reliance"]);
  EXPECT_GE(after["accuracy"], before["accuracy"]);
  const auto nothing = plan_augmentation(biased, "hired", "job", {.target_reliance = 0.99, .training = {.rounds = 15}, .explained = 50, .background = 20});
  EXPECT_EQ((*nothing)["measured"]["reached"], true);
  EXPECT_TRUE((*nothing)["steps"].empty());
}

TEST(Proxies, AFeatureThatNothingForetellsHasNone) {
  const auto proxies = find_proxies(planted_table(1500, 0, 3), "luck", {.target = "hired"});
  ASSERT_TRUE(proxies) << proxies.error().message;
  EXPECT_EQ(proxies->measure, "r2");
  EXPECT_LT(proxies->skill, 0.05);
  if (proxies->skill <= 0) {
    EXPECT_TRUE(proxies->proxies.empty());
  }
  EXPECT_FALSE(find_proxies(planted_table(100, 0, 3), "hired", {.target = "hired"}));
  EXPECT_FALSE(find_proxies(planted_table(100, 0, 3), "jop", {.target = "hired"}));
}

#endif

TEST(PlanAugmentation, RefusesWhatMakesNoSense) {
  const Table table = planted_table(200, 0.5, 4);
  const auto problem = [&](const std::string& feature, const PlanOptions& options) {
    const auto plan = plan_augmentation(table, "hired", feature, options);
    return plan ? "" : plan.error().message;
  };
  EXPECT_NE(problem("hired", {}), "");
  EXPECT_NE(problem("jobs", {.training = {.learner = Learner::kNet, .rounds = 2}}).find("'jobs'"), std::string::npos);
  EXPECT_NE(problem("job", {.target_reliance = 1}), "");
  EXPECT_NE(problem("job", {.most_accuracy_lost = -1}), "");
  EXPECT_NE(problem("job", {.reweigh = 1.5}), "");
  EXPECT_NE(problem("job", {.together = {"nothing"}, .training = {.learner = Learner::kNet, .rounds = 2}}), "");
  const std::vector<double> weights(200, 1);
  EXPECT_NE(problem("job", {.training = {.weights = weights}}), "");
}

TEST(PlanAugmentation, WorksWithNets) {
  const auto plan = plan_augmentation(planted_table(800, 0.5, 5), "hired", "job", {.most_accuracy_lost = 0.1, .reweigh = 0.5, .training = {.learner = Learner::kNet, .rounds = 12}, .explained = 20, .background = 10});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_LT((*plan)["measured"]["after"]["reliance"], (*plan)["measured"]["before"]["reliance"]) << plan->dump(1);
  EXPECT_EQ((*plan)["steps"][0], (Json{{"step", "reweigh"}, {"column", "job"}, {"strength", 0.5}}));
  EXPECT_EQ((*plan)["steps"][1]["step"], "resample");
}

}  // namespace
}  // namespace deepseek::explain
