#include "explain/report/write_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "explain/report/document.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;

// root > (pressure > (low, high), age)
FeatureTree patient() {
  const std::vector<std::string> features{"low", "high", "age"};
  return *tree_of_groups(Json::parse(R"({"pressure": ["low", "high"]})"), features);
}

LocalExplanation local_of(std::vector<double> of_features, bool open) {
  const FeatureTree tree = patient();
  LocalExplanation local{.values = std::vector<double>(tree.nodes.size()), .half_width = std::vector<double>(tree.nodes.size(), 0.1), .open = std::vector<uint8_t>(tree.nodes.size(), 1), .pairs = {},
                         .base = 1, .score = 1, .asked = 8, .exact = false};
  const auto leaves = tree.leaves();
  for (size_t j = 0; j < of_features.size(); ++j) {
    local.values[static_cast<size_t>(leaves[j])] = of_features[j];
    local.score += of_features[j];
  }
  tree.add_up(local.values);
  if (!open) local.open[1] = 0;
  local.pairs = {{leaves[0], leaves[2], 0.25, 0.05}, {1, leaves[2], 0.125, 0.05}};
  return local;
}

const Origin kOrigin{.model = "m.json", .kind = "XGBoost", .output = "ill", .units = "log-odds", .data = "d.csv", .engine = "estimate from sampled coalitions", .worth = "marginal"};

TEST(WriteDocument, IsWhatTheReportReads) {
  const Json json = document_of(kOrigin, patient(), local_of({0.5, -0.25, 2}, true), {.sample = 3, .inputs = {70, 120, nullptr}, .prediction = 0.96, .actual = "ill"});
  const auto read = read_document(json);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->nodes.size(), 5u);
  EXPECT_EQ(read->nodes[1].name, "pressure");
  EXPECT_THAT(read->local->values, ElementsAre(2.25, 0.25, 0.5, -0.25, 2));
  EXPECT_EQ(read->local->score, 3.25);
  EXPECT_EQ(read->local->actual, "ill");
  EXPECT_EQ(read->local->inputs[3], Json(120));
  EXPECT_TRUE(read->local->inputs[4].is_null());
  EXPECT_THAT(read->local->interactions[0].nodes, ElementsAre(2, 4));
  EXPECT_FALSE(read->exact);
  EXPECT_EQ(read->coalitions, 8);
}

// Its members have no values; the document shows none for them, and the sums still hold.
TEST(WriteDocument, AClosedGroupIsALeaf) {
  const Json json = document_of(kOrigin, patient(), local_of({0.5, -0.25, 2}, false), {.sample = 3, .inputs = {70, 120, 50}});
  const auto read = read_document(json);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->nodes.size(), 3u);
  EXPECT_EQ(read->nodes[1].name, "pressure [2]");
  EXPECT_TRUE(read->local->inputs[1].is_null());
  EXPECT_EQ(read->local->inputs[2], Json(50));
  EXPECT_THAT(read->local->values, ElementsAre(2.25, 0.25, 2));
  ASSERT_EQ(read->local->interactions.size(), 1u);  // that of the member is gone with it
  EXPECT_THAT(read->local->interactions[0].nodes, ElementsAre(1, 2));
  ASSERT_EQ(read->notes.size(), 1u);
}

TEST(WriteDocument, ManyRows) {
  GlobalExplanation global{.importance = {1, 1, 1, 1, 1}, .half_width = {0, 0, 0, 0, 0}, .mean = {0, 0, 0, 0, 0}, .pairs = {{1, 4, 0.5, 0}}, .base = 1};
  std::vector<SampleText> samples;
  for (int i = 0; i < 2500; ++i) {
    global.rows.push_back(local_of({1.0 * i, 0, 0}, i % 2 == 0));
    samples.push_back({.sample = i, .inputs = {i, "yes", nullptr}});
  }
  const auto read = read_document(document_of(kOrigin, patient(), global, samples));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->global->rows, 2500);
  EXPECT_EQ(read->nodes.size(), 5u);  // open in some rows
  ASSERT_EQ(read->global->points.size(), 1000u);
  for (const ShownPoint& point : read->global->points) {
    EXPECT_EQ(point.values[0], static_cast<double>(point.sample));
    EXPECT_EQ(point.inputs[2], Json(point.sample));
    EXPECT_EQ(point.inputs[3], Json("yes"));
  }
}

}  // namespace
}  // namespace deepseek::explain
