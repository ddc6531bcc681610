// What the page carries; tests/page opens it in a browser.
#include "explain/report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "explain/report/page_data.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

// `groups` groups of `members` features each; feature i has the value 1 / (i + 1), every second one below 0.
Json wide(int groups, int members) {
  Json tree = Json::array({{{"name", "all"}, {"parent", -1}}});
  std::vector<double> values{0};
  for (int g = 0; g < groups; ++g) {
    const size_t group = tree.size();
    tree.push_back({{"name", "group" + std::to_string(g)}, {"parent", 0}});
    values.push_back(0);
    for (int m = 0; m < members; ++m) {
      const int feature = g * members + m;
      const double value = (feature % 2 == 0 ? 1.0 : -1.0) / (feature + 1);
      tree.push_back({{"name", "f" + std::to_string(feature)}, {"parent", group}, {"feature", feature}});
      values.push_back(value);
      values[group] += value;
      values[0] += value;
    }
  }
  std::vector<double> sizes(values.size());
  std::transform(values.begin(), values.end(), sizes.begin(), [](double x) { return std::abs(x); });
  const std::vector<double> zeros(values.size());
  return {{"tree", tree}, {"base", 1.0}, {"local", {{"score", 1 + values[0]}, {"values", values}, {"half_widths", zeros}}},
          {"global", {{"rows", 3}, {"importance", sizes}, {"half_widths", zeros}, {"mean", values},
                      {"points", {{{"sample", 4}, {"values", values}, {"inputs", Json::array({1.0 / 3, "text", nullptr})}}}}}}};
}

Json carried(const Json& explanation, const PageLimits& limits) {
  const auto document = read_document(explanation);
  EXPECT_TRUE(document.has_value()) << document.error().message;
  return page_data(*document, "en", limits);
}

TEST(PageData, GroupsStayTheSumsOfWhatIsCarried) {
  const Json data = carried(wide(20, 50), {.features = 100});
  const Json &nodes = data["nodes"], &values = data["local"]["values"];
  ASSERT_EQ(nodes.size(), values.size());
  ASSERT_EQ(nodes.size(), data["global"]["importance"].size());
  EXPECT_LT(nodes.size(), 200u);
  std::vector<double> sums(nodes.size());
  std::vector<int> leaves(nodes.size());
  for (size_t i = 1; i < nodes.size(); ++i) {
    const auto parent = nodes[i]["parent"].get<size_t>();
    sums[parent] += values[i].get<double>();
    leaves[parent] += nodes[i]["leaves"].get<int>();
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].contains("leaf") || nodes[i].contains("others")) continue;
    EXPECT_NEAR(sums[i], values[i].get<double>(), 1e-12) << nodes[i];
    EXPECT_EQ(leaves[i], nodes[i]["leaves"].get<int>()) << nodes[i];
  }
  EXPECT_EQ(data["features"], 1000);
}

TEST(PageData, CarriesTheStrongestFeaturesAndTheirPoints) {
  const Json data = carried(wide(2, 30), {.features = 10, .swarms = 4});
  size_t leaves = 0;
  for (const Json& node : data["nodes"]) leaves += node.contains("leaf");
  EXPECT_EQ(leaves, 10u);
  const Json& points = data["global"]["points"];
  ASSERT_EQ(points["features"].size(), 4u);
  EXPECT_EQ(data["nodes"][points["features"][0]["node"].get<size_t>()]["name"], "f0");
  EXPECT_EQ(points["features"][0]["values"], Json::array({1.0}));
  EXPECT_EQ(points["features"][0]["inputs"], Json::array({0.33333}));
  EXPECT_EQ(points["features"][1]["inputs"], Json::array({"text"}));
  EXPECT_EQ(points["features"][2]["inputs"], Json::array({nullptr}));
  EXPECT_EQ(points["samples"], Json::array({4}));
}

TEST(PageData, SpeaksBothLanguages) {
  const Json data = carried(wide(1, 3), {});
  EXPECT_THAT(data["texts"]["en"]["sampleSentences"][0].get<std::string>(), HasSubstr("The model's score for the prediction is"));
  EXPECT_THAT(data["texts"]["zh"]["sampleSentences"][0].get<std::string>(), HasSubstr("得分为"));
  EXPECT_EQ(data["texts"]["en"]["method"].size(), data["texts"]["zh"]["method"].size());
}

TEST(PageData, NamesWhatIsMissingAndWhatWasDrawn) {
  Json json = wide(1, 3);
  json["data"]["rows"] = 40;
  json["local"]["inputs"] = {{"f0", 1.5}, {"f1", nullptr}};
  const Json data = carried(json, {});
  EXPECT_EQ(data["local"]["missing"], Json::array({3}));
  EXPECT_EQ(data["local"]["inputs"][2], 1.5);
  EXPECT_EQ(data["global"]["rows"], 3);
  EXPECT_EQ(data["global"]["dataRows"], 40);
}

TEST(Page, IsRefusedWithAReasonWhereThereIsNone) {
  if (has_page()) GTEST_SKIP() << "this build carries the page";
  const auto page = html_page(wide(1, 3), "en");
  ASSERT_FALSE(page.has_value());
  EXPECT_THAT(page.error().message, HasSubstr("DEEPSEEK_PAGES=ON"));
}

TEST(Page, HoldsHostileNamesAsText) {
  if (!has_page()) GTEST_SKIP() << "this build carries no page";
  Json json = wide(1, 4);
  json["tree"][2]["name"] = "</script><script>alert(1)</script>";
  json["tree"][3]["name"] = "<!-- %DATA% %TEXT%";
  json["model"] = {{"output", "</title><img src=x>"}};
  const auto page = html_page(json, "zh");
  ASSERT_TRUE(page.has_value()) << page.error().message;
  EXPECT_THAT(*page, HasSubstr("<html lang=\"zh-CN\">"));
  EXPECT_THAT(*page, HasSubstr("&lt;/title&gt;&lt;img src=x&gt;"));
  EXPECT_THAT(*page, Not(HasSubstr("<script>alert(1)")));
  EXPECT_THAT(*page, Not(HasSubstr("</title><img")));
  EXPECT_THAT(*page, HasSubstr("default-src 'none'; script-src 'sha256-"));
  // Two script elements and no other: the data and the program, whose text holds no end of an element.
  const auto count = [&](const std::string& part) {
    size_t found = 0;
    for (size_t at = page->find(part); at != std::string::npos; at = page->find(part, at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count("</script"), 2u);
  EXPECT_LT(page->size(), size_t{2} << 20);
}

TEST(Page, ADocumentThatCannotBeReadIsRefused) {
  if (!has_page()) GTEST_SKIP() << "this build carries no page";
  const auto page = html_page(Json{{"tree", Json::array()}}, "en");
  ASSERT_FALSE(page.has_value());
  EXPECT_EQ(page.error().message, "the explanation has no tree of features");
}

}  // namespace
}  // namespace deepseek::explain
