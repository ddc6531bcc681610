// What a plan makes of a table, and the plans that are refused.
#include "explain/reliance/augment_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "explain/reliance/planted.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;

Json plan_of(const std::string& steps) { return {{"steps", Json::parse(steps)}}; }

AugmentedTable augmented(const formats::Table& table, const std::string& steps, uint64_t seed = 0) {
  auto found = augment_table(table, "hired", plan_of(steps), seed);
  EXPECT_TRUE(found) << found.error().message;
  return found ? std::move(*found) : AugmentedTable{};
}

std::string refusal(const Json& plan) {
  const auto found = augment_table(planted_table(20, 0, 1), "hired", plan);
  return found ? "" : found.error().message;
}

// P(hired | job) among rows, weighted.
std::map<double, double> hired_by_job(const AugmentedTable& a, size_t first, size_t last) {
  std::map<double, double> hired, all;
  for (size_t r = first; r < last; ++r) {
    const double job = a.table.columns[1].values[r];
    if (std::isnan(job)) continue;
    all[job] += a.weights[r];
    hired[job] += a.weights[r] * a.table.columns[4].values[r];
  }
  for (auto& [job, share] : hired) share /= all[job];
  return hired;
}

TEST(AugmentTable, CopiesChangeTheirColumnsAlone) {
  const auto table = planted_table(4000, 0.5, 1);
  const auto a = augmented(table, R"([{"step": "resample", "columns": ["job"], "strength": 1.5}])");
  ASSERT_EQ(a.table.rows, 12000);
  ASSERT_EQ(a.weights.size(), 12000u);
  ASSERT_EQ(a.sources.size(), 12000u);
  int changed = 0;
  for (size_t r = 0; r < 12000; ++r) {
    const auto source = r % 4000;
    ASSERT_EQ(a.sources[r], static_cast<int64_t>(source));
    ASSERT_EQ(a.weights[r], r < 4000 ? 1 : 0.75);
    for (const size_t c : {0u, 2u, 3u, 4u}) ASSERT_EQ(a.table.columns[c].values[r], table.columns[c].values[source]);
    changed += a.table.columns[1].values[r] != table.columns[1].values[source] ? 1 : 0;
  }
  EXPECT_GT(changed, 5000);
  const auto before = hired_by_job(a, 0, 4000), after = hired_by_job(a, 4000, 12000);
  EXPECT_GT(before.at(0) - before.at(1), 0.4);
  EXPECT_LT(std::abs(after.at(0) - after.at(1)), 0.05);
}

TEST(AugmentTable, ColumnsThatGoTogetherComeFromOneDonor) {
  auto table = planted_table(1000, 0, 2);
  for (size_t r = 0; r < 1000; ++r) table.columns[0].values[r] = 10 * table.columns[2].values[r];
  const auto a = augmented(table, R"([{"step": "resample", "columns": ["school", "skill"], "strength": 1}])");
  for (size_t r = 0; r < 2000; ++r) ASSERT_EQ(a.table.columns[0].values[r], 10 * a.table.columns[2].values[r]);
}

TEST(AugmentTable, DonorsOfTheSameClassKeepWhatColumnAndTargetShare) {
  const auto a = augmented(planted_table(4000, 0.5, 3), R"([{"step": "resample", "columns": ["job"], "strength": 1, "donors": "same class"}])");
  const auto before = hired_by_job(a, 0, 4000), after = hired_by_job(a, 4000, 8000);
  for (const auto& [job, share] : before) EXPECT_NEAR(after.at(job), share, 0.06);
}

TEST(AugmentTable, ReweighingMakesColumnAndTargetIndependent) {
  const auto table = planted_table(3000, 0.5, 4);
  const auto whole = augmented(table, R"([{"step": "reweigh", "column": "job", "strength": 1}])");
  EXPECT_EQ(whole.table.rows, 3000);
  const auto shares = hired_by_job(whole, 0, 3000);
  for (const auto& [job, share] : shares) EXPECT_NEAR(share, shares.at(0), 1e-9);
  EXPECT_NEAR(std::accumulate(whole.weights.begin(), whole.weights.end(), 0.0), 3000, 1e-6);
  const auto half = hired_by_job(augmented(table, R"([{"step": "reweigh", "column": "job", "strength": 0.5}])"), 0, 3000);
  EXPECT_GT(half.at(0), half.at(1) + 0.1);
  for (const double w : augmented(table, R"([{"step": "reweigh", "column": "skill", "strength": 1}])").weights) ASSERT_GT(w, 0);
}

TEST(AugmentTable, TheSeedDecides) {
  const auto table = planted_table(200, 0.5, 5);
  const char* steps = R"([{"step": "resample", "columns": ["job"], "strength": 1}])";
  const auto one = augmented(table, steps, 1).table.columns[1].values, same = augmented(table, steps, 1).table.columns[1].values, other = augmented(table, steps, 2).table.columns[1].values;
  const auto equal = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  EXPECT_TRUE(std::equal(one.begin(), one.end(), same.begin(), equal));
  EXPECT_FALSE(std::equal(one.begin(), one.end(), other.begin(), equal));
  EXPECT_EQ(augmented(table, "[]").table.rows, 200);
}

TEST(AugmentTable, RefusesPlansThatMakeNoSense) {
  for (const char* plan : {"3", "[]", "{}", R"({"steps": 1})", R"({"steps": [1]})", R"({"steps": [{}]})", R"({"steps": [{"step": "dance"}]})"}) EXPECT_NE(refusal(Json::parse(plan)), "") << plan;
  for (const char* step : {R"({"step": "resample", "strength": 1})", R"({"step": "resample", "columns": [], "strength": 1})", R"({"step": "resample", "columns": ["hired"], "strength": 1})",
                           R"({"step": "resample", "columns": ["job", "job"], "strength": 1})", R"({"step": "resample", "columns": [7], "strength": 1})", R"({"step": "resample", "columns": ["job"]})",
                           R"({"step": "resample", "columns": ["job"], "strength": 0})", R"({"step": "resample", "columns": ["job"], "strength": -1})",
                           R"({"step": "resample", "columns": ["job"], "strength": 1e300})", R"({"step": "resample", "columns": ["job"], "strength": "1"})",
                           R"({"step": "resample", "columns": ["job"], "strength": 1, "donors": "nobody"})", R"({"step": "resample", "columns": ["job"], "strength": 1, "strenght": 2})",
                           R"({"step": "reweigh", "strength": 1})", R"({"step": "reweigh", "column": "job", "strength": 2})"}) {
    const auto message = refusal(plan_of(std::string("[") + step + "]"));
    EXPECT_NE(message.find("step 1 of the plan: "), std::string::npos) << step << message;
  }
  EXPECT_EQ(refusal(plan_of(R"([{"step": "resample", "columns": ["jobs"], "strength": 1}])")), "step 1 of the plan: the table has no column 'jobs'; is 'job' meant?");
  EXPECT_NE(refusal({{"steps", Json(std::vector<Json>(33, Json::object()))}}).find("33 steps"), std::string::npos);
  EXPECT_FALSE(augment_table(planted_table(20, 0, 1), "fired", plan_of("[]")));
  EXPECT_FALSE(read_plan("/nowhere/plan.json"));
}

}  // namespace
}  // namespace deepseek::explain
