// What training learns, reports and refuses, by both learners.
#include "explain/training/train_table.h"

#include <gtest/gtest.h>
#ifdef DEEPSEEK_HAVE_XGBOOST
#include <xgboost/c_api.h>
#endif

#include <cmath>
#include <random>

#include "explain/training/held_out.h"

namespace deepseek::explain {
namespace {

using formats::Column;
using formats::Table;
using Json = nlohmann::ordered_json;

const double kMissing = std::nan("");

// y = a + 2 * (colour is red) + noise; `cut` makes classes of it. b says nothing, one is constant, a tenth of a and of the colours is missing.
struct Synthetic {
  Table table;
  std::vector<double> y;
};

Synthetic synthetic(int rows, uint32_t seed) {
  std::mt19937 draw(seed);
  std::normal_distribution<double> normal;
  Synthetic s;
  s.table.rows = rows;
  s.table.columns = {{.name = "a"}, {.name = "b"}, {.name = "one"}, {.name = "colour", .categories = {"blue", "green", "red"}}};
  for (int r = 0; r < rows; ++r) {
    const double a = normal(draw), b = normal(draw), noise = 0.3 * normal(draw);
    const auto colour = static_cast<double>(draw() % 3);
    s.table.columns[0].values.push_back(draw() % 10 == 0 ? kMissing : a);
    s.table.columns[1].values.push_back(1e6 + 1e3 * b);
    s.table.columns[2].values.push_back(7);
    s.table.columns[3].values.push_back(draw() % 10 == 0 ? kMissing : colour);
    s.y.push_back((std::isnan(s.table.columns[0].values.back()) ? 0 : a) + (s.table.columns[3].values.back() == 2 ? 2 : 0) + noise);
  }
  return s;
}

Table with_classes(Synthetic s, const std::vector<double>& cuts) {
  Column target{.name = "y"};
  for (size_t c = 0; c <= cuts.size(); ++c) target.categories.push_back(std::string("class ") + static_cast<char>('A' + c));
  for (const double y : s.y) target.values.push_back(static_cast<double>(std::count_if(cuts.begin(), cuts.end(), [&](double cut) { return y > cut; })));
  s.table.columns.push_back(std::move(target));
  return s.table;
}

Table with_numbers(Synthetic s, double offset, double factor) {
  Column target{.name = "y"};
  for (const double y : s.y) target.values.push_back(offset + factor * y);
  s.table.columns.push_back(std::move(target));
  return s.table;
}

FittedTable fitted(const Table& table, const TrainTableOptions& options) {
  auto found = fit_table(table, "y", options);
  EXPECT_TRUE(found) << found.error().message;
  return found ? std::move(*found) : FittedTable{};
}

std::string refusal(const Table& table, const TrainTableOptions& options = {}, const std::string& target = "y") {
  const auto found = fit_table(table, target, options);
  return found ? "" : found.error().message;
}

std::string saved(const FittedTable& model) {
  const base::fs::path file = base::fs::temp_directory_path() / "deepseek_train_table_test";
  EXPECT_TRUE(model.save(file));
  auto bytes = base::read_file(file);
  base::fs::remove(file);
  return bytes ? *bytes : "";
}

std::vector<Learner> learners() {
#ifdef DEEPSEEK_HAVE_XGBOOST
  return {Learner::kTrees, Learner::kNet};
#else
  return {Learner::kNet};
#endif
}

TEST(HeldOut, AreaUnderRocIsThatByHand) {
  // 2 * 3 pairs: .9 above all three, .4 above .1 and level with .4: 3 + 1 + 1/2 of 6.
  EXPECT_DOUBLE_EQ(area_under_roc(std::vector<double>{0.1, 0.4, 0.4, 0.5, 0.9}, std::vector<uint8_t>{0, 0, 1, 0, 1}), 4.5 / 6);
  EXPECT_DOUBLE_EQ(area_under_roc(std::vector<double>{1, 1, 1}, std::vector<uint8_t>{0, 1, 1}), 0.5);
  EXPECT_TRUE(std::isnan(area_under_roc(std::vector<double>{1, 2}, std::vector<uint8_t>{1, 1})));
}

TEST(TrainTable, TwoClasses) {
  const Table table = with_classes(synthetic(3000, 1), {0.5});
  for (const Learner learner : learners()) {
    const auto model = fitted(table, {.learner = learner});
    EXPECT_EQ(model.report["task"], "binary");
    EXPECT_EQ(model.report["rows"], 2400);
    EXPECT_EQ(model.report["held_out"], 600);
    EXPECT_EQ(model.held_out.size(), 600u);
    EXPECT_GT(model.report["accuracy"], 0.85) << model.report;
    EXPECT_GT(model.report["auc"], 0.93) << model.report;
    EXPECT_LT(model.report["majority"], 0.7) << model.report;
    EXPECT_EQ(model.model.outputs, std::vector<std::string>{"class B"});
    EXPECT_EQ(model.model.link, TreeEnsemble::Link::kLogistic);
    EXPECT_EQ(model.model.target, "y");
    EXPECT_LT(model.report["rounds"].get<int>(), learner == Learner::kTrees ? 500 : 120) << "training stops by itself";
  }
}

TEST(TrainTable, ReportsWhatTheModelScores) {
  const Table table = with_classes(synthetic(1000, 2), {0.5});
  for (const Learner learner : learners()) {
    const auto model = fitted(table, {.learner = learner});
    const auto rows = rows_of(table, model.model.features);
    const auto scores = model.model.score(rows->rows);
    ASSERT_TRUE(scores);
    std::vector<double> judged;
    std::vector<uint8_t> second;
    double right = 0;
    for (const int64_t r : model.held_out) {
      judged.push_back((*scores)[static_cast<size_t>(r)]);
      second.push_back(table.find("y")->values[static_cast<size_t>(r)] == 1 ? 1 : 0);
      right += (judged.back() > 0) == (second.back() == 1) ? 1 : 0;
    }
    EXPECT_DOUBLE_EQ(model.report["accuracy"], right / 200);
    EXPECT_NEAR(model.report["auc"], area_under_roc(judged, second), 1e-6);  // scores of other batches round otherwise
  }
}

TEST(TrainTable, FiveClassesAndNumbers) {
  for (const Learner learner : learners()) {
    const auto classes = fitted(with_classes(synthetic(4000, 3), {-0.7, 0.1, 0.8, 1.8}), {.learner = learner});
    EXPECT_EQ(classes.report["task"], "classes");
    EXPECT_GT(classes.report["accuracy"], classes.report["majority"].get<double>() + 0.35) << classes.report;
    EXPECT_GT(classes.report["auc"], 0.9) << classes.report;
    EXPECT_EQ(classes.model.outputs.size(), 5u);
    EXPECT_EQ(classes.model.link, TreeEnsemble::Link::kSoftmax);
    for (const auto& [offset, factor] : {std::pair{0.0, 1.0}, {5e4, 2e3}, {0.0, 1e-6}, {1e9, 10}}) {
      const auto numbers = fitted(with_numbers(synthetic(3000, 4), offset, factor), {.learner = learner});
      EXPECT_EQ(numbers.report["task"], "regression");
      EXPECT_GT(numbers.report["r2"], 0.85) << numbers.report;
      EXPECT_LT(numbers.report["rmse"], 0.5 * factor) << numbers.report;
      EXPECT_FALSE(numbers.report.contains("accuracy"));
      EXPECT_EQ(numbers.model.outputs, std::vector<std::string>{"y"});
    }
  }
}

TEST(TrainTable, TwoNumbersAreClasses) {
  Table table = with_classes(synthetic(500, 5), {0.5});
  table.columns.back().categories.clear();
  for (double& y : table.columns.back().values) y = 1 - 2 * y;
  for (const Learner learner : learners()) {
    const auto model = fitted(table, {.learner = learner});
    EXPECT_EQ(model.schema.classes, (std::vector<std::string>{"-1", "1"}));
    EXPECT_GT(model.report["accuracy"], 0.8) << model.report;
  }
}

TEST(TrainTable, SameSeedSameBytes) {
  const Table table = with_classes(synthetic(200, 6), {0.5});
  for (const Learner learner : learners()) {
    const TrainTableOptions options{.learner = learner, .rounds = 2, .seed = 5, .threads = 2};
    const auto first = saved(fitted(table, options));
    EXPECT_EQ(first, saved(fitted(table, options)));
    TrainTableOptions other = options;
    other.seed = 6;
    EXPECT_NE(first, saved(fitted(table, other)));
    EXPECT_NE(fitted(table, options).held_out, fitted(table, other).held_out);
  }
}

TEST(TrainTable, WeightsChooseWhatIsLearnt) {
  // Half of the rows has the labels turned round; the weights say which half counts.
  Table table = with_classes(synthetic(2000, 7), {0.5});
  std::vector<double> straight(2000), turned(2000);
  for (size_t r = 0; r < 2000; ++r) {
    if (r % 2 == 1) table.columns.back().values[r] = 1 - table.columns.back().values[r];
    straight[r] = r % 2 == 0 ? 1e9 : 0;
    turned[r] = r % 2 == 1 ? 1e-9 : 0;
  }
  const std::vector<double> row{2, 1e6, 7, 2};
  for (const Learner learner : learners()) {
    const auto one = fitted(table, {.learner = learner, .weights = straight}), other = fitted(table, {.learner = learner, .weights = turned});
    EXPECT_GT(one.model.score(row)->front(), 1);
    EXPECT_LT(other.model.score(row)->front(), -1);
    EXPECT_EQ(one.report["held_out"], 400) << "rows of weight 0 judge";
    EXPECT_NEAR(one.report["accuracy"], 0.5, 0.1);
  }
}

TEST(TrainTable, CopiesNeverJudge) {
  const Table table = with_classes(synthetic(500, 8), {0.5});
  Table copied = table;
  std::vector<int64_t> sources;
  for (int64_t r = 0; r < 500; ++r) sources.push_back(r);
  for (int64_t r = 0; r < 500; ++r) {
    for (Column& column : copied.columns) column.values.push_back(column.values[static_cast<size_t>(r)]);
    sources.push_back(r);
  }
  copied.rows = 1000;
  for (const Learner learner : learners()) {
    const auto plain = fitted(table, {.learner = learner, .rounds = 3}), with_copies = fitted(copied, {.learner = learner, .rounds = 3, .sources = sources});
    EXPECT_EQ(plain.held_out, with_copies.held_out);
    EXPECT_EQ(with_copies.report["rows"], 2 * plain.report["rows"].get<int>());
  }
  sources[999] = 700;
  EXPECT_EQ(refusal(copied, {.sources = sources}), "a row cannot be a copy of row 700");
}

TEST(TrainTable, WhatWasNeverSeenIsMissing) {
  Table table = with_classes(synthetic(800, 9), {0.5});
  for (const Learner learner : learners()) {
    const auto model = fitted(table, {.learner = learner});
    const std::vector<double> rows{0, 1e6, 7, kMissing, 0, 1e6, 7, 99, 0, 1e6, 7, -1, kMissing, kMissing, kMissing, kMissing, 1e308, -1e308, 1e308, 0};
    const auto scores = model.model.score(rows);
    ASSERT_TRUE(scores);
    ASSERT_EQ(scores->size(), 5u);
    for (const double score : *scores) EXPECT_TRUE(std::isfinite(score));
    if (learner == Learner::kNet) {
      EXPECT_EQ((*scores)[0], (*scores)[1]);
      EXPECT_EQ((*scores)[0], (*scores)[2]);
    }
    Table other = table;
    other.columns[3].categories[0] = "violet";  // rows_of() makes it missing
    const auto read = rows_of(other, model.model.features);
    ASSERT_TRUE(read);
    EXPECT_TRUE(model.model.score(read->rows));
    EXPECT_FALSE(model.model.score(std::vector<double>(5)));
  }
}

TEST(TrainTable, NetsGradientIsThatOfItsScore) {
  const auto numbers = fitted(with_numbers(synthetic(600, 10), 100, 10), {.learner = Learner::kNet, .rounds = 20});
  const auto classes = fitted(with_classes(synthetic(600, 10), {-0.7, 0.1, 0.8, 1.8}), {.learner = Learner::kNet, .rounds = 20});
  const std::vector<double> row{0.4, 1e6 + 500, 7, 2, kMissing, 1e6, 7, 1};
  for (const auto& [model, output] : {std::pair{&numbers, 0}, {&classes, 3}}) {
    ASSERT_TRUE(model->model.gradient);
    const auto gradient = model->model.gradient(row, output);
    ASSERT_TRUE(gradient) << gradient.error().message;
    ASSERT_EQ(gradient->size(), 8u);
    for (const size_t still : {3u, 4u, 7u}) EXPECT_EQ((*gradient)[still], 0) << "categories and missing numbers do not move";
    for (const auto& [feature, step] : {std::pair<size_t, double>{0, 1e-2}, {1, 10}}) {
      auto up = row, down = row;
      up[feature] += step;
      down[feature] -= step;
      const double slope = ((*scores_of(model->model, up, 4, output))[0] - (*scores_of(model->model, down, 4, output))[0]) / (2 * step);
      EXPECT_NEAR((*gradient)[feature], slope, 0.01 * std::abs(slope) + 1e-6);
    }
    EXPECT_FALSE(model->model.gradient(row, 9));
  }
}

TEST(TrainTable, RefusesWhatCannotBeLearnt) {
  const Table table = with_classes(synthetic(100, 11), {0.5});
  EXPECT_EQ(refusal(table, {}, "z"), "the table has no column 'z' to be the target; it has 'a', 'b', 'one', 'colour', 'y'");
  EXPECT_EQ(refusal(table, {}, ""), "training needs the name of a target");
  EXPECT_NE(refusal(table, {}, "one").find("has one value in all rows, '7'"), std::string::npos);
  EXPECT_NE(refusal(with_classes(synthetic(5, 11), {0.5}), {}).find("5 rows have a target; 10 are the least"), std::string::npos);
  Table empty = table;
  for (double& y : empty.columns.back().values) y = kMissing;
  EXPECT_EQ(refusal(empty), "the target 'y' is missing in every row");
  Table alone = table;
  alone.columns.erase(alone.columns.begin(), alone.columns.end() - 1);
  EXPECT_EQ(refusal(alone), "the table has no column besides the target 'y'");
  Table many = with_classes(synthetic(1500, 11), {});
  many.columns.back().categories.clear();
  for (size_t r = 0; r < 1500; ++r) {
    many.columns.back().categories.push_back("c" + std::to_string(10000 + r));
    many.columns.back().values[r] = static_cast<double>(r);
  }
  EXPECT_EQ(refusal(many), "the target 'y' has 1500 classes; 1000 are the most");
  EXPECT_NE(refusal(table, {.held_out = 1}), "");
  EXPECT_NE(refusal(table, {.rounds = -1}), "");
  EXPECT_NE(refusal(table, {.weights = std::vector<double>(3, 1)}), "");
  EXPECT_NE(refusal(table, {.weights = std::vector<double>(100, -1)}), "");
  EXPECT_EQ(refusal(table, {.weights = std::vector<double>(100, 0)}), "too few of the rows have a weight above 0 to train on");
  EXPECT_FALSE(learner_named("forest"));
}

TEST(TrainTable, SmallestTablesAndStop) {
  for (const Learner learner : learners()) {
    EXPECT_EQ(fitted(with_classes(synthetic(10, 12), {0.0}), {.learner = learner, .rounds = 2}).report["held_out"], 2);
    EXPECT_NE(refusal(with_classes(synthetic(100, 12), {0.5}), {.learner = learner, .stop_requested = [] { return true; }}).find("stopped after 0 of"), std::string::npos);
    int64_t seen = 0;
    EXPECT_EQ(fitted(with_classes(synthetic(100, 12), {0.5}),
                     {.learner = learner, .rounds = 3, .on_progress = [&](int64_t round, int64_t rounds, double loss) {
                        EXPECT_EQ(round, ++seen);
                        EXPECT_EQ(rounds, 3);
                        EXPECT_GT(loss, 0);
                      }})
                  .report["task"],
              "binary");
    EXPECT_EQ(seen, 3);
  }
}

#ifdef DEEPSEEK_HAVE_XGBOOST

// Raw scores of XGBoost itself. Categories go by sets and, up to four of them, one by one.
std::vector<float> scores_of_xgboost(const std::string& bytes, std::span<const double> rows, const std::vector<FeatureText>& features) {
  std::vector<float> numbers(rows.begin(), rows.end());
  DMatrixHandle matrix = nullptr;
  BoosterHandle booster = nullptr;
  EXPECT_EQ(XGDMatrixCreateFromMat(numbers.data(), rows.size() / features.size(), features.size(), std::nanf(""), &matrix), 0);
  std::vector<const char*> types;
  for (const auto& feature : features) types.push_back(feature.categories.empty() ? "float" : "c");
  EXPECT_EQ(XGDMatrixSetStrFeatureInfo(matrix, "feature_type", types.data(), types.size()), 0);
  EXPECT_EQ(XGBoosterCreate(nullptr, 0, &booster), 0);
  EXPECT_EQ(XGBoosterLoadModelFromBuffer(booster, bytes.data(), bytes.size()), 0) << XGBGetLastError();
  const bst_ulong* shape = nullptr;
  bst_ulong dimensions = 0;
  const float* scores = nullptr;
  EXPECT_EQ(XGBoosterPredictFromDMatrix(booster, matrix, R"({"type": 1, "training": false, "iteration_begin": 0, "iteration_end": 0, "strict_shape": true})", &shape, &dimensions, &scores), 0)
      << XGBGetLastError();
  std::vector<float> found;
  if (scores != nullptr) found.assign(scores, scores + shape[0] * shape[1]);
  XGBoosterFree(booster);
  XGDMatrixFree(matrix);
  return found;
}

TEST(TrainTable, TreesScoreAsXGBoostDoes) {
  auto data = synthetic(2000, 13);
  std::mt19937 draw(13);
  Column town{.name = "town"};
  for (int c = 0; c < 70; ++c) town.categories.push_back("town " + std::to_string(100 + c));
  for (double& y : data.y) {
    town.values.push_back(draw() % 20 == 0 ? kMissing : static_cast<double>(draw() % 70));
    if (std::fmod(town.values.back(), 3) == 1) y += 1.5;
  }
  data.table.columns.push_back(std::move(town));
  const std::vector<Table> tables{with_classes(data, {0.5}), with_classes(data, {-0.7, 0.1, 0.8}), with_numbers(data, 1000, 10)};
  for (const Table& table : tables) {
    const auto model = fitted(table, {.rounds = 60});
    bool sets = false;
    for (const Tree& tree : model.model.trees->trees) sets = sets || !tree.category_sets.empty();
    EXPECT_TRUE(sets) << "there are splits by categories";
    const auto rows = rows_of(table, model.model.features);
    const auto found = model.model.score(rows->rows);
    const auto expected = scores_of_xgboost(saved(model), rows->rows, model.model.features);
    ASSERT_EQ(found->size(), expected.size());
    const double trees = static_cast<double>(model.model.trees->trees.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const double tolerance = 1.2e-7 * (trees + 1) * std::max(1.0, std::abs(static_cast<double>(expected[i])));  // XGBoost adds f32 leaf by leaf
      ASSERT_NEAR(((*found)[i] - model.target_mean) / model.target_scale, expected[i], tolerance) << i;
    }
  }
}

#endif

}  // namespace
}  // namespace deepseek::explain
