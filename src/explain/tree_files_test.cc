// Models of XGBoost and LightGBM against the shap package's values (tests/golden/trees.py), and what happens to broken files.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/json.h"
#include "base/random.h"
#include "explain/tree_ensemble.h"
#include "explain/tree_scorer.h"
#include "explain/tree_shap/tree_shap.h"

namespace deepseek::explain {
namespace {

namespace fs = base::fs;
using Json = nlohmann::ordered_json;

const fs::path kFolder = fs::path(DEEPSEEK_SOURCE_DIR) / "tests/golden/trees";

void append(const Json& json, std::vector<double>& to) {
  if (json.is_array()) {
    for (const auto& item : json) append(item, to);
  } else {
    to.push_back(json.is_null() ? std::nan("") : json.get<double>());
  }
}
std::vector<double> numbers(const Json& json) {
  std::vector<double> to;
  append(json, to);
  return to;
}

// shap puts the outputs last: [rows, features, outputs].
std::vector<double> outputs_first(const std::vector<double>& values, size_t features, size_t outputs) {
  std::vector<double> to(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / (features * outputs), feature = i / outputs % features, output = i % outputs;
    to[(row * outputs + output) * features + feature] = values[i];
  }
  return to;
}

// shap computes XGBoost's values in f32: sums of a few dozen leaves.
void expect_equal(const std::vector<double>& found, const std::vector<double>& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-6 * std::max(1.0, std::abs(expected[i]))) << what << " " << i;
}

std::vector<fs::path> models() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().filename().string().find(".model.") != std::string::npos) found.push_back(entry.path());
  }
  return found;
}

TEST(TreeFiles, FastScoresAreTheScores) {
  for (const auto& path : models()) {
    const auto model = read_tree_ensemble(path);
    ASSERT_TRUE(model) << model.error().message;
    base::SplitMix64 draw{7};
    std::vector<double> rows(1003 * model->features.size());
    for (double& x : rows) {
      const double u = draw.uniform();
      x = u < 0.1 ? std::nan("") : u < 0.2 ? 0 : u < 0.25 ? -1 : u < 0.27 ? 1e300 : u < 0.5 ? std::floor(20 * draw.uniform()) : 200 * draw.uniform() - 50;
    }
    const TreeScorer scorer(std::make_shared<const TreeEnsemble>(*model));
    const auto expected = raw_scores(*model, rows);
    for (const int threads : {1, 2, 0}) EXPECT_EQ(scorer(rows, threads), expected) << path.filename() << " " << threads;
    EXPECT_EQ(scorer(std::span(rows).first(model->features.size()), 0), std::vector<double>(expected.begin(), expected.begin() + model->outputs()));
  }
}

TEST(TreeFiles, ValuesEqualShap) {
  ASSERT_EQ(models().size(), 8u);
  for (const auto& path : models()) {
    const std::string name = path.filename().string().substr(0, path.filename().string().find('.'));
    const auto model = read_tree_ensemble(path);
    ASSERT_TRUE(model) << model.error().message;
    auto json = base::read_json_file(kFolder / (name + ".json"));
    ASSERT_TRUE(json) << json.error().message;
    const auto features = static_cast<size_t>(model->feature_count()), outputs = static_cast<size_t>(model->outputs());
    const auto rows = numbers((*json)["rows"]);
    const auto result = tree_shap(*model, rows);
    expect_equal(result.base, numbers((*json)["base"]), name + " base");
    expect_equal(result.values, outputs_first(numbers((*json)["values"]), features, outputs), name);
    if (json->contains("interactions")) expect_equal(tree_shap_interactions(*model, rows), numbers((*json)["interactions"]), name + " interactions");
    if (!json->contains("background")) continue;
    const auto other = interventional_tree_shap(*model, rows, numbers((*json)["background"]));
    expect_equal(other.base, numbers((*json)["interventional_base"]), name + " interventional base");
    expect_equal(other.values, outputs_first(numbers((*json)["interventional"]), features, outputs), name + " interventional");
  }
}

TEST(TreeFiles, CutOffAndChangedFilesGetOneSentence) {
  const fs::path file = fs::temp_directory_path() / "deepseek_tree_files_test";
  for (const auto& path : models()) {
    const auto content = base::read_file(path);
    ASSERT_TRUE(content);
    for (size_t i = 0; i < 60; ++i) {
      std::string changed = *content;
      if (i < 30) changed.resize(content->size() * i / 30);
      else changed[content->size() * (i - 30) / 30] ^= 0x15;
      std::ofstream(file, std::ios::binary).write(changed.data(), static_cast<std::streamsize>(changed.size()));
      const auto model = read_tree_ensemble(file);  // a changed digit may still be a model
      if (!model) {
        EXPECT_NE(model.error().message.find("deepseek_tree_files_test: "), std::string::npos) << model.error().message;
      } else if (i < 30) {
        EXPECT_EQ(model->kind, "LightGBM");  // its text may end between two trees
      }
    }
  }
  fs::remove(file);
}

Json xgboost(const char* classes, const char* base) {
  const Json tree = {{"left_children", {1, -1, -1}}, {"right_children", {2, -1, -1}}, {"split_indices", {0, 0, 0}}, {"split_conditions", {0.5, 1, 2}}, {"default_left", {0, 0, 0}}, {"sum_hessian", {2, 1, 1}},
                     {"tree_param", Json::object()}};
  const Json booster = {{"name", "gbtree"}, {"model", {{"trees", {tree}}, {"tree_info", {0}}}}};
  return {{"learner", {{"learner_model_param", {{"num_feature", "1"}, {"num_class", classes}, {"base_score", base}}}, {"gradient_booster", booster}, {"objective", {{"name", "reg:squarederror"}}}}}};
}

// Short files that ask for more memory, or more of the stack, than there is.
TEST(TreeFiles, FilesThatAskForTooMuch) {
  ASSERT_TRUE(parse_tree_ensemble(xgboost("0", "0.5").dump()));
  for (const char* classes : {"nan", "-1", "1e300", "inf"}) EXPECT_FALSE(parse_tree_ensemble(xgboost(classes, "0.5").dump())) << classes;
  for (const char* base : {"nan", "inf"}) EXPECT_FALSE(parse_tree_ensemble(xgboost("0", base).dump())) << base;
  Json many = xgboost("0", "0.5");
  Json& tree = many["learner"]["gradient_booster"]["model"]["trees"][0];
  tree["categories"] = {1 << 24};
  tree["categories_nodes"] = tree["categories_segments"] = tree["categories_sizes"] = Json::array();
  for (int i = 0; i < 100'000; ++i) {
    tree["categories_nodes"].push_back(0);
    tree["categories_segments"].push_back(0);
    tree["categories_sizes"].push_back(1);
  }
  EXPECT_FALSE(parse_tree_ensemble(many.dump()));
  std::string deep = "{U\x01x";
  deep += std::string(3'000'000, '[');
  EXPECT_FALSE(parse_tree_ensemble(deep));
  using std::string_literals::operator""s;
  EXPECT_FALSE(parse_tree_ensemble("{U\x01x[$Z#l\x7f\xff\xff\xff}"s));  // two thousand million nulls
}

}  // namespace
}  // namespace deepseek::explain
