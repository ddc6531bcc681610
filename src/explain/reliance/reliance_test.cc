// Shares against hand-computed ones, flags, and what an expectation may say.
#include "explain/reliance/reliance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>

namespace deepseek::explain {
namespace {

namespace fs = base::fs;
using Json = nlohmann::ordered_json;

// Nodes: 0 root, 1 group G of a and b, 2 a, 3 b, 4 c.
FeatureTree small_tree() {
  FeatureTree tree;
  tree.nodes.push_back({.name = "all"});
  const int32_t group = tree.add("G", 0, -1);
  tree.add("a", group, 0);
  tree.add("b", group, 1);
  tree.add("c", 0, 2);
  return tree;
}

LocalExplanation local(double a, double b, double c) {
  return {.values = {a + b + c, a + b, a, b, c}, .half_width = std::vector<double>(5), .open = std::vector<uint8_t>(5, 1)};
}

GlobalExplanation explained(const std::vector<LocalExplanation>& rows) {
  GlobalExplanation global;
  global.rows = rows;
  return global;
}

// Shares of a about `share`, of c the rest.
GlobalExplanation many(double share, uint32_t seed, int rows = 400) {
  std::mt19937 draw(seed);
  std::normal_distribution<double> normal(0, 1);
  std::vector<LocalExplanation> all;
  for (int r = 0; r < rows; ++r) all.push_back(local(share * normal(draw), 0.01 * normal(draw), (1 - share) * normal(draw)));
  return explained(all);
}

const NodeReliance& of(const Reliance& reliance, int32_t node) {
  return *std::find_if(reliance.nodes.begin(), reliance.nodes.end(), [&](const NodeReliance& n) { return n.node == node; });
}

std::string refusal(const GlobalExplanation& global, const RelianceOptions& options) {
  const auto found = find_reliance(global, small_tree(), options);
  return found ? "" : found.error().message;
}

TEST(Reliance, SharesAndIntervalsAreThoseByHand) {
  // Sums of |value|: a 3 + 1, b 1 + 1, c 0 + 2, of all 8. G: |3 - 1| + |1 + 1|.
  const auto found = find_reliance(explained({local(3, -1, 0), local(1, 1, -2)}), small_tree(), {.confidence = 0.95});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_DOUBLE_EQ(of(*found, 2).share, 0.5);
  EXPECT_DOUBLE_EQ(of(*found, 3).share, 0.25);
  EXPECT_DOUBLE_EQ(of(*found, 4).share, 0.25);
  EXPECT_DOUBLE_EQ(of(*found, 1).share, 0.5);
  // a: errors 3 - 0.5 * 4 = 1 and 1 - 0.5 * 4 = -1; sqrt((1 + 1) / 1 / 2) / 4.
  EXPECT_NEAR(of(*found, 2).half_width, 1.959964 / 4, 1e-5);
  EXPECT_FALSE(of(*found, 2).expected);
  EXPECT_EQ(found->nodes.front().share, 0.5);
}

TEST(Reliance, FlagsWhatLiesAboveTheExpectation) {
  const auto found = find_reliance(many(0.4, 1), small_tree(), {.expected = {{"a", 0.1}, {"c", 0.9}, {"G", 0.39}}});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_TRUE(of(*found, 2).flagged);
  EXPECT_FALSE(of(*found, 4).flagged);
  EXPECT_FALSE(of(*found, 1).flagged) << "within its interval of what was expected";
  EXPECT_EQ(found->nodes.front().node, 2);
  EXPECT_NEAR(of(*found, 2).excess, 0.3, 0.05);
  const Json json = reliance_json(*found, small_tree());
  EXPECT_EQ(json[0]["name"], "a");
  EXPECT_EQ(json[0]["flagged"], true);
  EXPECT_FALSE(json[3].contains("expected"));
}

TEST(Reliance, AgainstAReference) {
  const auto reference = many(0.2, 2);
  const auto more = find_reliance(many(0.5, 3), small_tree(), {.reference = &reference});
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_TRUE(of(*more, 2).flagged);
  EXPECT_TRUE(of(*more, 1).flagged) << "the group that a is in";
  EXPECT_FALSE(of(*more, 4).flagged);
  EXPECT_FALSE(of(*more, 3).flagged);
  EXPECT_GT(of(*more, 2).excess_half_width, of(*more, 2).half_width);
  const auto mixed = find_reliance(many(0.5, 3), small_tree(), {.expected = {{"a", 0.9}}, .reference = &reference});
  EXPECT_FALSE(of(*mixed, 2).flagged) << "what is stated comes before the reference";
}

TEST(Reliance, ModelsThatDoNotDifferAreNotFlagged) {
  int flagged = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const auto reference = many(0.3, 1000 + seed, 100);
    const auto found = find_reliance(many(0.3, seed, 100), small_tree(), {.reference = &reference, .least_excess = 0});
    for (const auto& node : found->nodes) flagged += node.flagged ? 1 : 0;
  }
  EXPECT_LE(flagged, 10);  // 5% of 200 would be both sides
}

TEST(Reliance, ClosedGroupsCountOnce) {
  auto closed = local(0, 0, 1);
  closed.values = {4, 3, 0, 0, 1};
  closed.open = {1, 0, 1, 1, 1};
  const auto found = find_reliance(explained({closed, closed}), small_tree(), {});
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->exact_rows);
  EXPECT_DOUBLE_EQ(of(*found, 1).share, 0.75);
  EXPECT_DOUBLE_EQ(of(*found, 4).share, 0.25);
  EXPECT_DOUBLE_EQ(of(*found, 2).share, 0);
}

TEST(Reliance, RefusesWhatDoesNotGoTogether) {
  EXPECT_EQ(refusal(many(0.3, 1), {.expected = {{"G2", 0.1}}}), "there is no feature or group 'G2' to expect a share of; is 'G' meant?");
  EXPECT_NE(refusal(many(0.3, 1), {.expected = {{"a", 1.5}}}), "");
  EXPECT_NE(refusal(many(0.3, 1), {.expected = {{"a", std::nan("")}}}), "");
  EXPECT_NE(refusal(many(0.3, 1), {.confidence = 1}), "");
  EXPECT_NE(refusal(many(0.3, 1, 1), {}).find("two rows"), std::string::npos);
  GlobalExplanation other;
  other.rows.resize(2);
  EXPECT_NE(refusal(other, {}).find("another tree"), std::string::npos);
  EXPECT_NE(refusal(many(0.3, 1), {.reference = &other}).find("the reference: "), std::string::npos);
  const auto nothing = find_reliance(explained({local(0, 0, 0), local(0, 0, 0)}), small_tree(), {.expected = {{"a", 0}}});
  ASSERT_TRUE(nothing);
  for (const auto& node : nothing->nodes) EXPECT_TRUE(node.share == 0 && !node.flagged);
}

TEST(Expectation, IsReadFromAFile) {
  const fs::path file = fs::temp_directory_path() / "deepseek_expectation_test.json";
  const auto read = [&](const std::string& text) {
    std::ofstream(file) << text;
    return read_expectation(file);
  };
  const auto good = read(R"({"job": 0.02, "money": 0.3, "x": "0.5"})");
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(*good, (std::map<std::string, double>{{"job", 0.02}, {"money", 0.3}, {"x", 0.5}}));
  for (const char* bad : {"{}", "[]", "3", R"({"job": 2})", R"({"job": -0.1})", R"({"job": "much"})", R"({"job": null})", R"({"job": {"a": 1}})", R"({"job": 0.1, "job": 0.2})", "{", ""}) {
    const auto found = read(bad);
    ASSERT_FALSE(found) << bad;
    EXPECT_NE(found.error().message.find("deepseek_expectation_test"), std::string::npos) << found.error().message;
  }
  fs::remove(file);
#ifdef DEEPSEEK_HAVE_YAML
  const fs::path yaml = fs::temp_directory_path() / "deepseek_expectation_test.yaml";
  std::ofstream(yaml) << "job: 0.02\nmoney: .3\n";
  EXPECT_EQ(*read_expectation(yaml), (std::map<std::string, double>{{"job", 0.02}, {"money", 0.3}}));
  fs::remove(yaml);
#endif
}

}  // namespace
}  // namespace deepseek::explain
