// plan.json: sections, and files that are broken, hostile or for another model.
#include "models/plan.h"

#include <gtest/gtest.h>

#include "models/decoder/checkpoint.h"

namespace deepseek::models {
namespace {

using Json = nlohmann::ordered_json;

class Plan : public ::testing::Test {
 protected:
  void SetUp() override {
    base::fs::remove_all(folder_);
    base::fs::create_directories(folder_);
  }
  static DecoderConfig config(const std::string& model) { return *read_decoder_config(DEEPSEEK_SOURCE_DIR "/tests/golden/models/" + model); }
  std::string refusal(const std::string& text, const std::string& model = "gemma3") {
    EXPECT_TRUE(base::write_file_atomically(file_, text));
    auto plan = read_plan(file_, config(model));
    if (!plan) return plan.error().message;
    auto found = sparsity_of(*plan, config(model));
    return found ? "accepted" : found.error().message;
  }
  // What the layers of the plan read; nothing where it has no such section.
  std::vector<kernels::HeadSelections> layers(const DecoderConfig& config) {
    auto plan = read_plan(file_, config);
    EXPECT_TRUE(plan);
    auto found = sparsity_of(*plan, config);
    EXPECT_TRUE(found);
    return found->value_or(std::vector<kernels::HeadSelections>());
  }
  // A plan whose section holds `layers`.
  std::string with(const Json& layers) {
    base::fs::remove(file_);
    EXPECT_TRUE(write_plan_section(file_, config("gemma3"), "sparsity", {{"layers", layers}}));
    return *base::read_file(file_);
  }
  base::fs::path folder_ = base::fs::path(::testing::TempDir()) / "deepseek-plan", file_ = folder_ / "plan.json";
};

TEST_F(Plan, LiesBesideTheModel) {
  EXPECT_EQ(plan_path("/a/model"), "/a/model/plan.json");
  EXPECT_EQ(plan_path("/a/model.gguf"), "/a/plan.json");
}

TEST_F(Plan, SectionsAreKeptAndRead) {
  const DecoderConfig c = config("gemma3");
  ASSERT_TRUE(write_plan_section(file_, c, "precision", {{"kept", true}}));
  EXPECT_FALSE(sparsity_of(*read_plan(file_, c), c)->has_value());
  ASSERT_TRUE(write_plan_section(file_, c, "sparsity", {{"layers", {{"5", "dsa:top_p=0.5"}}}}));
  const auto plan = read_plan(file_, c);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ((*plan)["precision"]["kept"], true);
  const auto sparsity = layers(c);
  ASSERT_EQ(sparsity.size(), 6u);
  EXPECT_TRUE(sparsity[0].empty());
  ASSERT_EQ(sparsity[5].size(), 1u);
  EXPECT_EQ(sparsity[5][0].top_p, 0.5f);
  // Another model's plan is begun anew.
  ASSERT_TRUE(write_plan_section(file_, config("qwen3"), "sparsity", {{"layers", Json::object()}}));
  EXPECT_FALSE(read_plan(file_, config("qwen3"))->contains("precision"));
}

TEST_F(Plan, HeadsOfALayerMayDiffer) {
  const DecoderConfig c = config("gemma3");
  Json list = Json::array();
  for (int64_t h = 0; h < c.num_heads; ++h) list.push_back(h == 0 ? "dsa:ratio=0.25" : "dense");
  ASSERT_TRUE(write_plan_section(file_, c, "sparsity", {{"layers", {{"5", list}}}}));
  const auto sparsity = layers(c);
  ASSERT_EQ(sparsity.at(5).size(), static_cast<size_t>(c.num_heads));
  EXPECT_EQ(sparsity[5][0].ratio, 0.25f);
  EXPECT_EQ(sparsity[5][1], kernels::SelectionOptions::all());
  // Heads that all read all are a dense layer.
  list[0] = "dense";
  ASSERT_TRUE(write_plan_section(file_, c, "sparsity", {{"layers", {{"5", list}}}}));
  EXPECT_TRUE(layers(c).at(5).empty());
  list[0] = 3;
  EXPECT_NE(refusal(with({{"5", list}})).find("layer 5: head 0: 3 is no text"), std::string::npos);
  list.push_back("dense");
  EXPECT_NE(refusal(with({{"5", list}})).find(fmt::format("layer 5: the list has {} entries, the model {} heads", c.num_heads + 1, c.num_heads)), std::string::npos);
  EXPECT_NE(refusal(with({{"5", Json::array()}})).find("the list has 0 entries"), std::string::npos);
}

TEST_F(Plan, WhatDoesNotFitIsRefusedWithTheReason) {
  EXPECT_EQ(refusal(with({{"5", "dsa"}})), "accepted");
  EXPECT_NE(refusal(with({{"5", "dsa"}}), "qwen3").find("was made for another model: its family is \"gemma3\", this one's is \"qwen3\""), std::string::npos);
  EXPECT_NE(refusal(with({{"6", "dsa"}})).find("no layer '6'"), std::string::npos);
  EXPECT_NE(refusal(with({{"-1", "dsa"}})).find("no layer '-1'"), std::string::npos);
  EXPECT_NE(refusal(with({{"99999999999999999999", "dsa"}})).find("no layer"), std::string::npos);
  EXPECT_NE(refusal(with({{"0", "dsa"}})).find("layer 0 has a sliding window"), std::string::npos);
  EXPECT_NE(refusal(with({{"5", 0.4}})).find("layer 5: 0.4 is no text"), std::string::npos);
  EXPECT_NE(refusal(with({{"5", "dsa:ratio=2"}})).find("layer 5: "), std::string::npos);
  EXPECT_NE(refusal(with(Json::array())).find("no object 'layers'"), std::string::npos);
  EXPECT_NE(refusal("").find("plan.json"), std::string::npos);
  EXPECT_NE(refusal("{\"version\": 1").find("plan.json"), std::string::npos);
  EXPECT_NE(refusal("[]").find("is no plan"), std::string::npos);
  EXPECT_NE(refusal("{\"version\": 1}").find("is no plan"), std::string::npos);
  EXPECT_NE(refusal("{\"version\": 2, \"model\": {}}").find("version 2"), std::string::npos);
  EXPECT_NE(refusal("{\"version\": 1, \"model\": 7}").find("another model"), std::string::npos);
  EXPECT_FALSE(read_plan(folder_ / "absent.json", config("gemma3")));
  // A file that is no plan is not overwritten.
  ASSERT_TRUE(base::write_file_atomically(file_, "my notes"));
  EXPECT_FALSE(write_plan_section(file_, config("gemma3"), "sparsity", {}));
  EXPECT_EQ(*base::read_file(file_), "my notes");
}

}  // namespace
}  // namespace deepseek::models
