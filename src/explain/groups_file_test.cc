// Groups from JSON and YAML files: the same groups in the same order, and what is wrong said with its line.
#include "explain/groups_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "explain/feature_tree.h"

namespace deepseek::explain {
namespace {

using ::testing::HasSubstr;

std::string read(const std::string& text, const std::string& ending) {
  const auto path = base::fs::temp_directory_path() / ("deepseek_groups_test" + ending);
  std::ofstream(path, std::ios::binary) << text;
  const auto groups = read_groups(path);
  base::fs::remove(path);
  return groups ? groups->dump() : groups.error().message;
}

TEST(GroupsFile, Json) {
  const std::string groups = R"({"vitals":["age",{"pressure":["systolic","diastolic"]}],"blood":{"red":["iron"],"white":["count"]}})";
  EXPECT_EQ(read(groups, ".json"), groups);
  EXPECT_EQ(read(" \n" + groups + "\n", ""), groups);
  EXPECT_THAT(read(R"({"a": ["x"], "a": ["y"]})", ".json"), HasSubstr("deepseek_groups_test.json: the group 'a' is there twice"));
  EXPECT_THAT(read("{\"a\": [\"x\"],\n}", ".json"), HasSubstr("not valid JSON: parse error at line 2"));
  EXPECT_THAT(read("", ".json"), HasSubstr("the file is empty"));
  EXPECT_THAT(read("{\"\xFF\": []}", ".json"), HasSubstr("not UTF-8"));
  EXPECT_THAT(read(std::string(100'000, '['), ".json"), HasSubstr("nested more than 64 levels"));
  EXPECT_THAT(read(std::string(2'000'000, ' '), ".json"), HasSubstr("deepseek_groups_test.json"));
  EXPECT_FALSE(read_groups("/nonexistent/groups.yaml"));
}

#ifdef DEEPSEEK_HAVE_YAML

TEST(GroupsFile, YamlIsTheSameAsJson) {
  const std::string text = "# groups\nvitals:\n  - age\n  - pressure: [systolic, diastolic]\n  - yes\n  - 1\n  - 'it''s'\nblood: {red: [iron], white: [\"c o\"]}\n";
  const std::string expected = R"({"vitals":["age",{"pressure":["systolic","diastolic"]},"yes","1","it's"],"blood":{"red":["iron"],"white":["c o"]}})";
  EXPECT_EQ(read(text, ".yaml"), expected);
  EXPECT_EQ(read(text, ".yml"), expected);
  EXPECT_EQ(read(text, ".txt"), expected);
  EXPECT_EQ(read("{z: [b], a: [c]}", ".yaml"), R"({"z":["b"],"a":["c"]})");  // in their order
  EXPECT_EQ(read("empty:\n", ".yaml"), R"({"empty":null})");                 // tree_of_groups() says what is wrong with it
}

TEST(GroupsFile, WhatIsWrongWithYamlIsSaidWithItsLine) {
  EXPECT_THAT(read("a: [x]\nb: [y]\na: [z]\n", ".yaml"), HasSubstr("deepseek_groups_test.yaml: line 3: the group 'a' is there twice"));
  EXPECT_THAT(read("a: &x [b]\nc: *x\n", ".yaml"), HasSubstr("line 1: anchors are not read"));
  EXPECT_THAT(read("a:\n  - b\n  - *x\n", ".yaml"), HasSubstr("line 3: "));
  EXPECT_THAT(read("a: [b]\n---\nc: [d]\n", ".yaml"), HasSubstr("line 2: a second document begins"));
  EXPECT_THAT(read("? [a]\n: [b]\n", ".yaml"), HasSubstr("line 1: the name of a group is a list or a map"));
  EXPECT_THAT(read("~: [b]\n", ".yaml"), HasSubstr("line 1: a group has no name"));
  EXPECT_THAT(read("a:\n\t- b\n", ".yaml"), HasSubstr("line 2: "));
  EXPECT_THAT(read("a: [b\nc: d\n", ".yaml"), HasSubstr("line 2: "));
  EXPECT_THAT(read("# nothing\n", ".yaml"), HasSubstr("the file names no groups"));
  std::string deep, wide = "a: [";
  for (int i = 0; i < 100'000; ++i) deep += "- ";
  for (int i = 0; i < 250'000; ++i) wide += "b, ";
  EXPECT_THAT(read(deep, ".yaml"), HasSubstr("nested more than 64 levels"));
  EXPECT_THAT(read(wide + "b]", ".yaml"), HasSubstr("more than 200000 names and groups"));
}

#else

TEST(GroupsFile, YamlNeedsYamlCpp) { EXPECT_THAT(read("a: [b]\n", ".yaml"), HasSubstr("reads groups from JSON only")); }

#endif

// Each group as "name(children)".
std::string shown(const FeatureTree& tree, size_t node = 0) {
  std::string out = tree.nodes[node].name;
  for (size_t i = 0; i < tree.nodes[node].children.size(); ++i) {
    const auto child = static_cast<size_t>(tree.nodes[node].children[i]);
    EXPECT_EQ(tree.nodes[child].parent, static_cast<int32_t>(node));
    EXPECT_GT(child, node);
    out += (i == 0 ? "(" : ", ") + shown(tree, child);
  }
  return tree.nodes[node].children.empty() ? out : out + ")";
}

TEST(HybridTree, ClustersWhatNoGroupNames) {
  const std::vector<std::string> names{"a", "b", "c", "d", "e", "f"};
  std::vector<double> distance(36, 0.9);  // a with d and b with e are near
  for (size_t i = 0; i < 6; ++i) distance[i * 6 + i] = 0;
  for (const auto& [i, j, far] : {std::tuple{0, 3, 0.1}, {1, 4, 0.2}}) distance[static_cast<size_t>(i * 6 + j)] = distance[static_cast<size_t>(j * 6 + i)] = far;
  const auto tree = [&](const char* groups, double highest, size_t refine_above) {
    const auto found = hybrid_tree(nlohmann::ordered_json::parse(groups), distance, names, highest, refine_above);
    if (!found) return found.error().message;
    EXPECT_EQ(found->features_below()[0], (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
    for (const FeatureNode& node : found->nodes) {
      EXPECT_TRUE(node.feature < 0 || node.name == names[static_cast<size_t>(node.feature)]);
    }
    return shown(*found);
  };
  EXPECT_EQ(tree(R"({"G": ["c", "b"]})", 0.5, 0), "all(G(c, b), a and 1 more(a, d), e, f)");
  EXPECT_EQ(tree("{}", 0.5, 0), "all(a and 1 more(a, d), b and 1 more(b, e), c, f)");
  EXPECT_EQ(tree(R"({"G": ["d", "b", "e", {"H": ["c", "f"]}]})", 0.5, 0), "all(G(d, b, e, H(c, f)), a)");
  EXPECT_EQ(tree(R"({"G": ["d", "b", "e", {"H": ["c", "f"]}]})", 0.5, 2), "all(G(H(c, f), d, b and 1 more(b, e)), a)");
  EXPECT_EQ(tree(R"({"G": ["d", "b", "e", {"H": ["c", "f"]}]})", 0.5, 3), "all(G(d, b, e, H(c, f)), a)");
  EXPECT_EQ(tree(R"({"G": ["z"]})", 0.5, 0), "group 'G' names the feature 'z', which the model does not have");
}

}  // namespace
}  // namespace deepseek::explain
