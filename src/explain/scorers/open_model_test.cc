// Trees and linear models by their files, the categories behind their numbers, and what is no model.
#include <gmock/gmock.h>

#include "explain/scorers/scorer_test.h"
#include "explain/table_schema.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The table of a golden file as a user's CSV gives it.
formats::Table table_of(const Json& json) {
  std::string csv;
  for (const auto& name : json["columns"]) csv += (csv.empty() ? "" : ",") + name.get<std::string>();
  for (const auto& row : json["rows"]) {
    std::string line;
    for (const auto& value : row) line += (&value == &row[0] ? "\n" : ",") + (value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump());
    csv += line;
  }
  auto table = formats::parse_table(csv, "golden");
  EXPECT_TRUE(table) << table.error().message;
  return *table;
}

ScorerOptions options_of(const formats::Table& table) { return {.features = schema_of(table, "")->features}; }

void expect_scores_of_texts(const std::string& model, const std::string& golden_name) {
  const Json json = golden_json(golden_name);
  const auto table = table_of(json);
  const auto opened = open_table_model(golden(model), options_of(table));
  ASSERT_TRUE(opened) << opened.error().message;
  const auto rows = rows_of(table, opened->features);
  ASSERT_TRUE(rows) << rows.error().message;
  expect_near(opened->score(rows->rows), numbers(json["scores"]), 1e-6);
  EXPECT_NE(opened->trees, nullptr);
  EXPECT_THAT(opened->outputs, ElementsAre("score"));
}

TEST(OpenModel, CategoriesOfPandasGoByTheirTexts) {
  expect_scores_of_texts("lightgbm_pandas.model.txt", "lightgbm_pandas.json");  // its names have _ for the blanks of the table's
  expect_scores_of_texts("xgboost_pandas.model.json", "xgboost_pandas.json");
  expect_scores_of_texts("xgboost_pandas.model.ubj", "xgboost_pandas.json");
}

TEST(OpenModel, TreesWithoutNamesReadTheColumnsInOrder) {
  const Json json = golden_json("xgboost_codes.json");
  const auto model = open_table_model(golden("xgboost_codes.model.json"), {.features = columns({"hours", "job", "wage", "grade"}), .target = "rich"});
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->features[1].name, "job");
  EXPECT_EQ(model->trees->features[3], "grade");
  EXPECT_EQ(model->kind, "XGBoost");
  EXPECT_EQ(model->target, "rich");
  EXPECT_EQ(model->link, TreeEnsemble::Link::kLogistic);
  EXPECT_THAT(model->outputs, ElementsAre("rich"));
  expect_near(model->score(numbers(json["rows"])), numbers(json["scores"]), 1e-6);
  EXPECT_THAT(message_of(open_table_model(golden("xgboost_codes.model.json"), {.features = columns({"hours", "job"})})), HasSubstr("names no columns and reads 4; the data has 2"));
  const auto by_name = open_table_model(golden("xgboost_codes.model.json"), {.features = columns({"f3", "f2", "f1", "f0", "other"})});
  ASSERT_TRUE(by_name) << by_name.error().message;
  EXPECT_EQ(by_name->features[0].name, "f0");
}

TEST(OpenModel, TextWhoseCodesNobodyStatesIsRefused) {
  auto features = columns({"hours", "job", "wage", "grade"});
  features[1].categories = {"baker", "clerk", "driver", "nurse"};
  const std::string message = message_of(open_table_model(golden("xgboost_codes.model.json"), {.features = features}));
  EXPECT_THAT(message, HasSubstr("the column 'job' holds text, such as 'baker'"));
  EXPECT_THAT(message, HasSubstr("give a schema file"));
  const Folder folder;
  const auto schema = folder.write("schema.json", R"({"features": [{"name": "hours"}, {"name": "job", "categories": ["nurse", "baker", "clerk", "driver"]}, {"name": "wage"},
    {"name": "grade"}], "target": "rich", "classes": ["no", "yes"]})");
  const auto model = open_table_model(golden("xgboost_codes.model.json"), {.features = features, .schema = schema});
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_THAT(model->features[1].categories, ElementsAre("nurse", "baker", "clerk", "driver"));
  EXPECT_THAT(model->outputs, ElementsAre("yes"));
  features[1].categories = {"0", "1", "2"};  // numbers in quotes are the codes themselves
  EXPECT_TRUE(open_table_model(golden("xgboost_codes.model.json"), {.features = features}));
}

TEST(OpenModel, OutputsAreNamedByTheSchema) {
  const Folder folder;
  std::string features;
  for (int j = 0; j < 8; ++j) features += fmt::format("{}{{\"name\": \"f{}\"}}", j == 0 ? "" : ",", j);
  const auto schema = folder.write("schema.json", "{\"features\": [" + features + "], \"target\": \"y\", \"classes\": [\"low\", \"middle\", \"high\"]}");
  const auto path = fs::path(DEEPSEEK_SOURCE_DIR) / "tests/golden/trees/xgboost_classes.model.json";
  const auto named = open_table_model(path, {.schema = schema}), unnamed = open_table_model(path);
  ASSERT_TRUE(named) << named.error().message;
  ASSERT_TRUE(unnamed) << unnamed.error().message;
  EXPECT_THAT(named->outputs, ElementsAre("low", "middle", "high"));
  EXPECT_THAT(unnamed->outputs, ElementsAre("output 0", "output 1", "output 2"));
  EXPECT_EQ(named->link, TreeEnsemble::Link::kSoftmax);
}

TEST(OpenModel, LinearModelsScoreAndDifferentiate) {
  const Folder folder;
  const auto path = folder.write("linear.json", R"({"weights": [[1, -2], [0.5, 0]], "offset": [3, 0], "features": ["a", {"name": "b", "categories": ["x", "y"]}], "outputs": ["no", "yes"],
    "link": "softmax", "target": "t"})");
  const auto model = open_table_model(path);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->target, "t");
  EXPECT_THAT(model->outputs, ElementsAre("no", "yes"));
  EXPECT_THAT(model->features[1].categories, ElementsAre("x", "y"));
  EXPECT_EQ(model->link, TreeEnsemble::Link::kSoftmax);
  const std::vector<double> rows{2, 1, -4, 0};
  expect_near(model->score(rows), {3, 1, -1, -2}, 0);
  expect_near(model->gradient(rows, 1), {0.5, 0, 0.5, 0}, 0);
  const std::vector<double> missing{std::nan(""), 1};
  EXPECT_THAT(message_of(model->score(missing)), HasSubstr("where 'a' is missing"));
  const auto nameless = open_table_model(folder.write("short.json", R"({"weights": [2, 3]})"), {.features = columns({"c", "d"})});
  ASSERT_TRUE(nameless) << nameless.error().message;
  EXPECT_EQ(nameless->features[1].name, "d");
  expect_near(nameless->score(rows), {7, -8}, 0);
}

TEST(OpenModel, WrongLinearModelsGetOneSentence) {
  const Folder folder;
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {R"({"weight": [1]})", "neither XGBoost's"},
           {R"({"weights": []})", "is no list of numbers"},
           {R"({"weights": [[]]})", "is empty"},
           {R"({"weights": [[1, 2], [3]]})", "rows of 2 and 1 numbers"},
           {R"({"weights": [1, null]})", "no finite number"},
           {R"({"weights": [1e999]})", ""},
           {R"({"weights": [1, 2], "offset": [1, 2]})", "2 numbers for 1 output"},
           {R"({"weights": [1, 2], "link": "probit"})", "none of identity"},
           {R"({"weights": [1, 2], "link": "softmax"})", "there is one"},
           {R"({"weights": [1, 2], "features": ["a"]})", "1 features for 2 weights"},
           {R"({"weights": [1, 2], "features": ["a", "a"]})", "twice"},
           {R"({"weights": [1, 2], "features": 3})", "is no list"},
           {R"({"weights": [1, 2], "outputs": ["a", "b"]})", "no list of 1 names"},
           {R"([1, 2])", "it is no object"},
           {R"({"weights": )", "not valid JSON"}}) {
    const std::string path = folder.write("linear.json", text), message = message_of(open_table_model(path, {.features = columns({"a", "b"})}));
    EXPECT_THAT(message, HasSubstr(expected)) << text;
    EXPECT_THAT(message, ::testing::StartsWith(path)) << text;
    EXPECT_EQ(message.find(path, 1), std::string::npos) << message;
  }
}

TEST(OpenModel, WhatIsNoModelIsToldTheForms) {
  const Folder folder;
  for (const std::string& model : {(folder / "nothing.onnx").string(), (folder / "").string(), folder.write("model.pkl", "\x80\x04"), folder.write("notes.txt", "hello"), std::string("/dev/null"), std::string("")}) {
    EXPECT_THAT(message_of(open_table_model(model)), HasSubstr("a model is http://")) << model;
  }
  EXPECT_THAT(message_of(open_table_model("command:  ")), HasSubstr("names no program"));
  EXPECT_THAT(message_of(open_table_model(folder.write("m.json", "{}"), {.timeout = 0})), HasSubstr("timeout"));
  EXPECT_THAT(message_of(open_table_model(folder.write("m.json", "{}"), {.batch = 0})), HasSubstr("batch"));
  EXPECT_THAT(message_of(open_table_model(folder.write("m.json", "{}"), {.schema = folder / "none.json"})), HasSubstr("none.json"));
}

TEST(OpenModel, ChangedCategoriesDoNotCrash) {
  const Folder folder;
  for (const char* name : {"lightgbm_pandas.model.txt", "xgboost_pandas.model.json", "xgboost_pandas.model.ubj"}) {
    const auto content = base::read_file(golden(name));
    ASSERT_TRUE(content);
    for (size_t i = 0; i < 100; ++i) {
      std::string changed = *content;
      changed[content->size() * i / 100] ^= static_cast<char>(1 + i % 90);
      const auto model = open_table_model(folder.write(name, changed));  // a changed digit may still be a model
      if (!model) EXPECT_FALSE(model.error().message.empty());
    }
  }
}

}  // namespace
}  // namespace deepseek::explain
