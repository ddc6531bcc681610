// Tables as the rows of a model: columns by name, categories in the model's codes, and what does not fit said.
#include "explain/table_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace deepseek::explain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const double kNan = std::nan("");

formats::Table table_of(const std::string& text, const formats::TableOptions& options = {}) {
  auto table = formats::parse_table(text, "t.csv", options);
  EXPECT_TRUE(table) << (table ? "" : table.error().message);
  return table ? std::move(*table) : formats::Table{};
}

FeatureRows rows(const std::string& text, const std::vector<FeatureText>& features, const formats::TableOptions& options = {}) {
  auto found = rows_of(table_of(text, options), features);
  EXPECT_TRUE(found) << (found ? "" : found.error().message);
  return found ? std::move(*found) : FeatureRows{};
}

std::string refusal(const std::string& text, const std::vector<FeatureText>& features) {
  const auto found = rows_of(table_of(text), features);
  return found ? "accepted" : found.error().message;
}

void expect_rows(const FeatureRows& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.rows.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i])) EXPECT_TRUE(std::isnan(found.rows[i])) << i << " is " << found.rows[i];
    else EXPECT_EQ(found.rows[i], expected[i]) << i;
  }
}

TEST(TableSchema, OfATableAndThroughJson) {
  const auto table = table_of("age,job,income\n39,clerk,<=50K\n50,baker,>50K\n");
  const auto schema = schema_of(table, "income");
  ASSERT_TRUE(schema);
  const auto json = schema_json(*schema);
  EXPECT_EQ(json.dump(), R"({"features":[{"name":"age"},{"name":"job","categories":["baker","clerk"]}],"target":"income","classes":["<=50K",">50K"]})");
  const auto again = read_schema(json);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(schema_json(*again), json);
  EXPECT_EQ(schema_of(table, "")->features.size(), 3u);
  EXPECT_EQ(schema_of(table, "age")->classes.size(), 0u);
  EXPECT_EQ(schema_of(table, "incom").error().message, "the table has no column 'incom' to be the target; is 'income' meant?");
}

TEST(TableSchema, WhatIsWrongWithItsJson) {
  const auto wrong = [](const char* text) {
    const auto schema = read_schema(nlohmann::ordered_json::parse(text));
    return schema ? "accepted" : schema.error().message;
  };
  EXPECT_EQ(wrong(R"({"features":[{"name":"a","categories":null}],"target":null})"), "accepted");
  EXPECT_EQ(wrong("[]"), "a schema is a JSON object");
  EXPECT_EQ(wrong(R"({"features":[]})"), "the schema has no list of features");
  EXPECT_EQ(wrong(R"({"features":["a"]})"), "a feature is no JSON object");
  EXPECT_EQ(wrong(R"({"features":[{"name":""}]})"), "a feature has no name");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a"},{"name":"a"}]})"), "the schema has the feature 'a' twice");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a","categories":"x"}]})"), "the categories of 'a' are no list");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a","categories":["x",1]}]})"), "the categories of 'a' hold what is no text");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a","categories":["x","x"]}]})"), "the categories of 'a' hold 'x' twice");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a"}],"target":"a"})"), "the schema's target 'a' is one of its features");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a"}],"target":1})"), "the schema's target is no name of a column");
  EXPECT_EQ(wrong(R"({"features":[{"name":"a"}],"classes":[1]})"), "the classes hold what is no text");
}

TEST(RowsOf, ColumnsByNameInTheModelsCodes) {
  const auto found = rows("extra,job,age\n1,clerk,39\n2,baker,\n3,?,50\n4,pilot,38\n5,pilot,37\n", {{"age", {}}, {"job", {"clerk", "judge", "baker"}}});
  expect_rows(found, {39, 0, kNan, 2, 50, kNan, 38, kNan, 37, kNan});
  EXPECT_THAT(found.notes, ElementsAre("column 'job': 2 values are no category that the model knows, such as 'pilot'; counted as missing"));
}

TEST(RowsOf, NumbersMeetCategoriesByTheirValue) {
  const std::vector<FeatureText> features{{"grade", {"1.0", "2", "one", "-0", "1", "0.5"}}};
  const auto found = rows("grade,x\n1,0\n2,0\n0,0\n.5,1\n3,0\n", features);
  expect_rows(found, {4, 1, 3, 5, kNan});  // 1 is "1" before it is "1.0"
  EXPECT_THAT(found.notes, ElementsAre("column 'grade': 1 value is no category that the model knows, such as '3'; counted as missing"));
  expect_rows(rows("grade\n1\n2.0\n", {{"grade", {"1.0", "2.0"}}}), {0, 1});
  expect_rows(rows("grade\n1.0\none\n", features), {0, 2});  // a column of text, by its text
}

TEST(RowsOf, TextOfNumbersIsNumbersToAModelThatWantsThem) {
  expect_rows(rows("zip,x\n01,1\n2,2\n,3\n1e999,4\n", {{"zip", {}}}, {.categorical = {"zip"}}), {1, 2, kNan, kNan});
  EXPECT_EQ(refusal("zip,x\n01,1\n2b,2\n", {{"zip", {}}}), "the column 'zip' holds text, such as '2b', where the model wants numbers");
}

TEST(RowsOf, MissingColumnsAreNamedWithTheNearest) {
  EXPECT_EQ(refusal("Age,job\n1,a\n", {{"age", {}}}), "the table has no column 'age', which the model reads; is 'Age' meant?");
  EXPECT_EQ(refusal("x,y\n1,a\n", {{"age", {}}, {"x", {}}, {"occupation", {}}}), "the table has no columns 'age', 'occupation', which the model reads");
  EXPECT_THAT(refusal("x\n1\n", {{"a1", {}}, {"b1", {}}, {"c1", {}}, {"d1", {}}, {"e1", {}}, {"f1", {}}, {"g1", {}}}), HasSubstr("'a1', 'b1', 'c1', 'd1', 'e1' and 2 more, which"));
  EXPECT_EQ(refusal("x\n1\n", {}), "the model names no features");
}

TEST(RowsOf, ConstantColumnsAreNoted) {
  const std::vector<FeatureText> features{{"a", {}}, {"b", {}}, {"c", {"x"}}, {"d", {}}};
  EXPECT_THAT(rows("a,b,c,d\n1,5,x,\n2,5,x,\n3,,x,\n", features).notes, ElementsAre("columns 'b', 'c', 'd' have one value in all rows"));
  EXPECT_THAT(rows("a,b,c,d\n1,5,x,\n", features).notes, IsEmpty());  // one row says nothing
  EXPECT_THAT(rows("a,b\n1,5\n2,5\n", {{"a", {}}, {"b", {}}}).notes, ElementsAre("column 'b' has one value in all rows"));
}

TEST(Display, CategoriesNumbersAndMissing) {
  const FeatureText job{"job", {"clerk", "baker"}}, age{"age", {}};
  EXPECT_EQ(display(job, 1), "baker");
  EXPECT_EQ(display(job, 2), "2");
  EXPECT_EQ(display(job, 0.5), "0.5");
  EXPECT_EQ(display(job, -1), "-1");
  EXPECT_EQ(display(age, kNan), "missing");
  EXPECT_EQ(display(age, 1234567), "1234567");
  EXPECT_EQ(display(age, 5.827000141143799), "5.827");
  EXPECT_EQ(display(age, -0.000012345678), "-1.23457e-05");
  EXPECT_EQ(display(age, 1e300), "1e+300");
}

}  // namespace
}  // namespace deepseek::explain
