// The directory of a trained model: what comes back from it, and what is said of one that is broken.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>

#include "explain/training/train_table.h"

namespace deepseek::explain {
namespace {

namespace fs = base::fs;
using formats::Table;
using Json = nlohmann::ordered_json;

Table small_table(int classes) {
  std::mt19937 draw(3);
  Table table{.rows = 300};
  table.columns = {{.name = "x"}, {.name = "shape", .categories = {"round", "square"}}, {.name = "y"}};
  for (int r = 0; r < 300; ++r) {
    const double x = std::normal_distribution<double>()(draw);
    const auto shape = static_cast<double>(draw() % 2);
    table.columns[0].values.push_back(r % 17 == 0 ? std::nan("") : x);
    table.columns[1].values.push_back(shape);
    table.columns[2].values.push_back(classes == 0 ? 3 * x + shape : std::clamp(std::floor(x + shape + 1), 0.0, classes - 1.0));
  }
  for (int c = 0; c < classes; ++c) table.columns[2].categories.push_back("class " + std::to_string(c));
  return table;
}

class TrainedFile : public testing::TestWithParam<Learner> {
 protected:
  void SetUp() override {
#ifndef DEEPSEEK_HAVE_XGBOOST
    if (GetParam() == Learner::kTrees) GTEST_SKIP() << "this build has no XGBoost";
#endif
    folder_ = fs::temp_directory_path() / ("deepseek_trained_file_test_" + std::to_string(static_cast<int>(GetParam())));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  Json train(int classes) {
    auto report = train_table(small_table(classes), "y", folder_, {.learner = GetParam(), .rounds = 8});
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : Json();
  }
  [[nodiscard]] fs::path weights() const { return folder_ / (GetParam() == Learner::kTrees ? "model.ubj" : "model.safetensors"); }
  [[nodiscard]] std::string problem() const {
    const auto model = open_trained(folder_);
    return model ? "" : model.error().message;
  }
  [[nodiscard]] Json description() const { return Json::parse(*base::read_file(folder_ / "model.json")); }
  void describe(const Json& json) const { write("model.json", json.dump()); }
  void write(const std::string& name, const std::string& content) const { std::ofstream(folder_ / name, std::ios::binary) << content; }

  fs::path folder_;
};

TEST_P(TrainedFile, ScoresAsTheModelThatWasTrained) {
  for (const int classes : {0, 2, 3}) {
    const Table table = small_table(classes);
    const auto report = train(classes);
    const auto fitted = fit_table(table, "y", {.learner = GetParam(), .rounds = 8});
    ASSERT_TRUE(fitted) << fitted.error().message;
    EXPECT_EQ(fitted->report, report);
    const auto model = open_trained(folder_);
    ASSERT_TRUE(model) << model.error().message;
    const auto rows = rows_of(table, model->features);
    EXPECT_EQ(*model->score(rows->rows), *fitted->model.score(rows->rows));
    EXPECT_EQ(model->outputs, fitted->model.outputs);
    EXPECT_EQ(model->link, fitted->model.link);
    EXPECT_EQ(model->target, "y");
    EXPECT_EQ(model->kind, GetParam() == Learner::kTrees ? "XGBoost" : "net");
    EXPECT_EQ(model->trees != nullptr, GetParam() == Learner::kTrees);
    EXPECT_EQ(static_cast<bool>(model->gradient), GetParam() == Learner::kNet);
    EXPECT_EQ(description()["report"], report);
  }
}

TEST_P(TrainedFile, AnOlderModelOfTheOtherLearnerIsReplaced) {
  train(2);
  ASSERT_TRUE(train_table(small_table(3), "y", folder_, {.learner = Learner::kNet, .rounds = 2}));
  ASSERT_TRUE(open_trained(folder_));
  EXPECT_EQ(open_trained(folder_)->kind, "net");
  EXPECT_FALSE(fs::exists(folder_ / "model.ubj"));
}

TEST_P(TrainedFile, TrainingThatFailsLeavesTheOlderModel) {
  train(2);
  EXPECT_FALSE(train_table(small_table(2), "absent", folder_, {.learner = GetParam()}));
  EXPECT_EQ(problem(), "");
}

TEST_P(TrainedFile, SaysWhatIsWrongWithADescription) {
  EXPECT_NE(problem().find("there is no model.json in it"), std::string::npos);
  train(2);
  const Json good = description();
  const auto broken = [&](const std::function<void(Json&)>& change) {
    Json json = good;
    change(json);
    describe(json);
    return problem();
  };
  EXPECT_NE(broken([](Json& j) { j["learner"] = "forest"; }).find("model.json: there is no learner 'forest'"), std::string::npos);
  EXPECT_NE(broken([](Json& j) { j.erase("learner"); }), "");
  EXPECT_NE(broken([](Json& j) { j["learner"] = 7; }), "");
  EXPECT_NE(broken([](Json& j) { j["task"] = "magic"; }).find("there is no task 'magic'"), std::string::npos);
  EXPECT_NE(broken([](Json& j) { j["task"] = "classes"; }).find("cannot have 2 classes"), std::string::npos);
  EXPECT_NE(broken([](Json& j) { j["task"] = "regression"; }), "");
  EXPECT_NE(broken([](Json& j) { j.erase("target"); }).find("there is no target"), std::string::npos);
  EXPECT_NE(broken([](Json& j) { j["classes"].push_back("third"); }), "");
  EXPECT_NE(broken([](Json& j) {
              j["classes"].push_back("third");
              j["task"] = "classes";
            }),
            "");
  EXPECT_NE(broken([](Json& j) { j["features"].push_back({{"name", "more"}}); }), "");
  EXPECT_NE(broken([](Json& j) { j["features"] = Json::array(); }), "");
  EXPECT_NE(broken([](Json& j) { j = Json::array({1}); }), "");
  write("model.json", "{\"features\": [");
  EXPECT_NE(problem().find("model.json"), std::string::npos);
  describe(good);
  EXPECT_EQ(problem(), "");
  fs::remove(weights());
  EXPECT_NE(problem(), "");
}

TEST_P(TrainedFile, CutOffAndChangedWeightsGetOneSentence) {
  train(3);
  const std::string good = *base::read_file(weights());
  const std::vector<double> row{0.5, 1};
  for (size_t i = 0; i < 80; ++i) {
    std::string changed = good;
    if (i < 40) changed.resize(good.size() * i / 40);
    else changed[good.size() * (i - 40) / 40] ^= 0x7f;
    write(weights().filename().string(), changed);
    const auto model = open_trained(folder_);  // a changed digit may still be a model
    if (!model) {
      EXPECT_NE(model.error().message.find(weights().filename().string()), std::string::npos) << model.error().message;
      EXPECT_EQ(model.error().message.find('\n'), std::string::npos) << model.error().message;
    } else {
      EXPECT_GE(i, 40u);
      EXPECT_TRUE(model->score(row));
    }
  }
}

TEST_P(TrainedFile, WeightsThatAreNoNumbersAreRefused) {
  if (GetParam() != Learner::kNet) GTEST_SKIP() << "trees are checked by check_ensemble()";
  train(2);
  std::string content = *base::read_file(weights());
  const float infinite = INFINITY;
  content.replace(content.size() - sizeof(float), sizeof(float), reinterpret_cast<const char*>(&infinite), sizeof(float));
  write("model.safetensors", content);
  EXPECT_NE(problem().find("not finite"), std::string::npos) << problem();
}

TEST(TrainTable, ADirectoryThatCannotBeMadeIsSaidBeforeTraining) {
  const fs::path file = fs::temp_directory_path() / "deepseek_trained_file_in_the_way";
  std::ofstream(file) << "x";
  const auto report = train_table(small_table(2), "y", file / "model", {.learner = Learner::kNet});
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message.find("cannot make the directory"), std::string::npos);
  fs::remove(file);
}

INSTANTIATE_TEST_SUITE_P(Learners, TrainedFile, testing::Values(Learner::kTrees, Learner::kNet), [](const auto& info) { return info.param == Learner::kTrees ? "trees" : "net"; });

}  // namespace
}  // namespace deepseek::explain
