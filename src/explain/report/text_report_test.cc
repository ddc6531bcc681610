#include "explain/report/text_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

// A loan: two groups and a feature beside them. 0.30 - 0.10 = 0.20, 0.50 + 0.02 = 0.52, -0.31; the sum is 0.41.
Json loan() {
  return Json::parse(R"({
    "model": {"path": "loan.json", "kind": "XGBoost", "output": "repaid", "units": "log-odds"},
    "data": {"path": "loan.csv", "rows": 1000, "background_rows": 100, "target": "loan"},
    "method": {"engine": "estimate from sampled coalitions", "worth": "marginal", "values": "Winter", "interactions": "k-SII", "exact": false, "confidence": 0.95,
               "coalitions": 2048, "seed": 0, "notes": ["one column was empty"]},
    "tree": [{"name": "all", "parent": -1}, {"name": "income", "parent": 0}, {"name": "salary", "parent": 1, "feature": 0}, {"name": "rent", "parent": 1, "feature": 1},
             {"name": "history", "parent": 0}, {"name": "paid", "parent": 4, "feature": 2}, {"name": "asked", "parent": 4, "feature": 3}, {"name": "age", "parent": 0, "feature": 4}],
    "base": -0.2,
    "local": {"sample": 12, "score": 0.21, "prediction": 0.5523, "inputs": {"salary": 3100.5, "rent": 800, "paid": "always", "asked": null, "age": 39}, "actual": "repaid",
              "values": [0.41, 0.2, 0.3, -0.1, 0.52, 0.5, 0.02, -0.31], "half_widths": [0, 0.02, 0.03, 0.02, 0.02, 0.02, 0.05, 0.02],
              "interactions": [{"nodes": [2, 7], "value": 0.12, "half_width": 0.01}, {"nodes": [5, 7], "value": -0.08, "half_width": 0.01}, {"nodes": [3, 6], "value": 0.01, "half_width": 0.03}]}})");
}

// Ten rows: "salary" raises with its size, "age" lowers; "paid" is a text.
Json with_rows(Json json) {
  Json points = Json::array();
  for (int i = 0; i < 10; ++i) {
    const double salary = 0.1 * (i - 4.5), age = -0.05 * (i - 4.5), paid = i % 2 == 0 ? 0.3 : -0.2;
    points.push_back({{"sample", i}, {"values", {salary + age + paid, salary, salary, 0, paid, paid, 0, age}}, {"inputs", {1000 + 100 * i, 5, i % 2 == 0 ? "always" : "late", nullptr, 20 + i}}});
  }
  json["global"] = {{"rows", 500}, {"importance", {0.3, 0.25, 0.25, 0, 0.25, 0.25, 0, 0.125}}, {"half_widths", {0, 0, 0, 0, 0, 0, 0, 0}}, {"mean", {0.05, 0, 0, 0, 0.05, 0.05, 0, 0}},
                    {"interactions", {{{"nodes", {2, 7}}, {"value", 0.07}, {"half_width", 0.0}}}}, {"points", points}};
  return json;
}

std::string line_of(const std::string& text, const std::string& start) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(' ') != std::string::npos && line.substr(line.find_first_not_of(' ')).starts_with(start)) return line;
  }
  return "";
}

// The first figure with a sign in the line of `name`.
double figure_of(const std::string& text, const std::string& name) {
  std::smatch found;
  const std::string line = line_of(text, name);
  return std::regex_search(line, found, std::regex("[+-][0-9.]+")) ? std::stod(found[0]) : std::nan("");
}

TEST(TextReport, SaysTheConclusionWithItsConfidence) {
  const std::string text = text_report(loan(), "en");
  EXPECT_THAT(text, HasSubstr("loan = repaid: 55.2%\n"));
  // 1 / (1 + exp(0.2)) = 0.4502
  EXPECT_THAT(text_report(loan(), "en", {.width = 200}), HasSubstr("log-odds 0.210; the average over 100 background rows is -0.200, which is 45.0%."));
  EXPECT_THAT(text, HasSubstr("The model puts “loan = repaid” at 55.2%, above the 45.0% of the base value, the\naverage over 100 background rows."));
}

TEST(TextReport, FiguresOfAGroupAreTheSumsOfItsMembers) {
  const std::string text = text_report(loan(), "en");
  EXPECT_DOUBLE_EQ(figure_of(text, "income"), 0.2);
  EXPECT_NEAR(figure_of(text, "salary") + figure_of(text, "rent"), figure_of(text, "income"), 1e-9);
  EXPECT_NEAR(figure_of(text, "paid") + figure_of(text, "asked"), figure_of(text, "history"), 1e-9);
  EXPECT_NEAR(figure_of(text, "income") + figure_of(text, "history") + figure_of(text, "age"), figure_of(text, "sum"), 1e-9);
  EXPECT_THAT(text, HasSubstr("sum +0.410 = score 0.210 - base value -0.200"));
  EXPECT_THAT(line_of(text, "salary"), HasSubstr("3100"));
  EXPECT_LT(text.find("history"), text.find("income"));  // the greatest first
}

TEST(TextReport, WhatIsLeftOutStandsInOneLineOfItsGroup) {
  Json json = loan();
  for (int i = 0; i < 30; ++i) {
    json["tree"].push_back({{"name", "small" + std::to_string(i)}, {"parent", 4}, {"feature", 5 + i}});
    json["local"]["values"].push_back(0.001);
    json["local"]["half_widths"].push_back(0);
  }
  json["local"]["values"][4] = 0.55;
  json["local"]["values"][0] = 0.44;
  json["local"]["score"] = 0.24;
  const std::string text = text_report(json, "en", {.features = 5});
  EXPECT_DOUBLE_EQ(figure_of(text, "30 other features"), 0.03);
  EXPECT_THAT(text, Not(HasSubstr("small")));
}

TEST(TextReport, BarsShowValueAndInterval) {
  const std::string text = text_report(loan(), "en");
  EXPECT_THAT(line_of(text, "paid"), HasSubstr("│██"));
  EXPECT_THAT(line_of(text, "age"), HasSubstr("█│"));
  EXPECT_THAT(line_of(text, "asked"), HasSubstr("▒"));
  EXPECT_THAT(text, HasSubstr("±: its 95% interval"));
}

TEST(TextReport, SaysWhatCannotBeToldApartFromZero) {
  const std::string text = text_report(loan(), "en");
  EXPECT_THAT(line_of(text, "asked"), HasSubstr("+0.020 ±0.050 ≈0"));
  EXPECT_THAT(text, HasSubstr("asked cannot be told apart from 0: its 95% interval"));
  EXPECT_THAT(line_of(text, "rent ×"), HasSubstr("cannot be told apart from 0"));
  EXPECT_THAT(line_of(text, "salary  "), Not(HasSubstr("≈0")));
}

TEST(TextReport, InteractionsArePartsOfTheValues) {
  const std::string text = text_report(loan(), "en");
  EXPECT_THAT(text, HasSubstr("parts of the values above, not on top of them"));
  EXPECT_THAT(line_of(text, "salary × age"), HasSubstr("+0.120 ±0.010  higher together than apart"));
  EXPECT_THAT(line_of(text, "paid × age"), HasSubstr("-0.080 ±0.010  lower together than apart"));
}

TEST(TextReport, MethodNamesBaseLinkIndexErrorAndNotes) {
  const std::string text = text_report(loan(), "en", {.width = 200});
  for (const char* part : {"base value      -0.200 (the average over 100 background rows); an average of log-odds is not that of the probabilities", "probability = 1 / (1 + exp(-score))", "-0.200 + 0.410 = 0.210", "estimate from sampled coalitions", "marginal: a feature that is left out",
                           "Winter values", "k-SII", "half of the 95% interval", "2,048 coalitions; seed 0", "loan.csv, 1,000 rows; background of 100 rows", "one column was empty"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(TextReport, ChineseUsesItsOwnTerms) {
  const std::string text = text_report(with_rows(loan()), "zh", {.width = 400});
  for (const char* part : {"loan = repaid：55.2%", "对数几率 0.210；100 行背景数据的平均值为 -0.200，相当于 45.0%", "归因值", "基准值", "交互", "95% 置信区间", "与 0 无法区分", "并非额外叠加", "共同作用高于各自之和",
                           "salary 越高，得分越高。", "age 越高，得分越低。", "“always”时最高", "2,048 个联盟"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  for (const char* part : {"base value", "interval", "score", "together"}) EXPECT_THAT(text, Not(HasSubstr(part)));
}

TEST(TextReport, RowsSayWhatMattersAndInWhichDirection) {
  Json json = with_rows(loan());
  json.erase("local");
  const std::string text = text_report(json, "en", {.width = 400});
  EXPECT_THAT(text, HasSubstr("What matters for loan = repaid\n"));
  EXPECT_THAT(text, HasSubstr("Over 500 of 1,000 rows: mean absolute value (log-odds)"));
  EXPECT_THAT(text, HasSubstr("High values of salary raise the score."));
  EXPECT_THAT(text, HasSubstr("High values of age lower the score."));
  EXPECT_THAT(text, HasSubstr("The value of paid is highest for always (+0.300) and lowest for late (-0.200)."));
  EXPECT_THAT(line_of(text, "salary"), HasSubstr("high raises"));
  EXPECT_THAT(text, HasSubstr("salary (0.250, 40.0% of the sum)"));  // 0.25 of 0.25 + 0.25 + 0.125
}

TEST(TextReport, AMissingInputIsNamed) {
  Json json = loan();
  json["local"]["inputs"]["paid"] = nullptr;
  EXPECT_THAT(line_of(text_report(json, "en"), "paid"), HasSubstr("missing"));
  EXPECT_THAT(text_report(json, "en"), HasSubstr("Raised most by paid = missing"));
  EXPECT_THAT(line_of(text_report(json, "zh"), "paid"), HasSubstr("缺失"));
  json["local"].erase("inputs");  // of a prompt: a word has no input
  EXPECT_THAT(text_report(json, "en"), Not(HasSubstr("missing")));
}

TEST(TextReport, AnInputThatIsMostlyZeroHasADirection) {
  Json json = with_rows(loan());
  json.erase("local");
  for (int i = 0; i < 10; ++i) {  // gain: nine zeros whose values other features move apart
    json["global"]["points"][i]["inputs"][0] = i == 4 ? 5000 : 0;
    json["global"]["points"][i]["values"][2] = i == 4 ? 2.0 : -0.01 * i;
  }
  EXPECT_THAT(text_report(json, "en"), HasSubstr("High values of salary raise the score."));
}

TEST(TextReport, IntervalsOfMeansAreNoErrorsOfRows) {
  Json json = with_rows(loan());
  json.erase("local");
  json["method"]["exact"] = true;
  EXPECT_THAT(text_report(json, "en", {.width = 200}), HasSubstr("none: the values are exact for this background"));
  json["global"]["half_widths"][2] = 0.01;
  EXPECT_THAT(text_report(json, "en", {.width = 200}), HasSubstr("half of the 95% interval of a mean over the rows; the values of each row are exact"));
}

TEST(TextReport, RowsThatWereNotDrawnAreNotClaimed) {
  Json json = with_rows(loan());
  json.erase("local");
  json["data"]["rows"] = 500;
  EXPECT_THAT(text_report(json, "en"), HasSubstr("Over all 500 rows: "));
  json["data"]["rows"] = 9917;
  EXPECT_THAT(text_report(json, "en"), HasSubstr("Over 500 of 9,917 rows: "));
  EXPECT_THAT(text_report(json, "zh"), HasSubstr("9,917 行中的 500 行"));
}

TEST(TextReport, LinksAreNamedOnlyWhereTheyHold) {
  Json json = loan();
  json["local"]["prediction"] = 0.8;  // softmax over several outputs: not the logistic function of the score
  EXPECT_THAT(text_report(json, "en"), Not(HasSubstr("45.0%")));
  json["model"]["units"] = "score";
  json["local"].erase("prediction");
  const std::string text = text_report(json, "en", {.width = 200});
  EXPECT_THAT(text, HasSubstr("loan = repaid: 0.210\n"));
  EXPECT_THAT(text, HasSubstr("0.410 above the average over 100 background rows (-0.200)"));
}

TEST(TextReport, ChancesThatReadAlikeAreToldApartByTheScore) {
  Json json = loan();
  json["base"] = -20.0;
  json["local"]["score"] = -19.59;
  json["local"]["prediction"] = 3.1e-9;
  const std::string text = text_report(json, "en", {.width = 200});
  EXPECT_THAT(text, HasSubstr("The model's score for “loan = repaid” is -19.590, 0.410 above the average over 100 background rows (-20.000)."));
  EXPECT_THAT(text, Not(HasSubstr("the <0.01% of the base value")));
}

TEST(TextReport, HostileNamesCannotSteerATerminal) {
  Json json = loan();
  json["tree"][2]["name"] = "\x1b[2J\x1b[31mred\nline\t\xE2\x80\xAEgnp.exe";
  json["local"]["inputs"]["paid"] = std::string(5000, 'y') + "\r\x07";
  json["model"]["output"] = "a\nb";
  json["tree"][5]["name"] = "\xff\xfe broken";
  for (const char* language : {"en", "zh"}) {
    const std::string text = text_report(json, language);
    for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
    EXPECT_THAT(text, HasSubstr("\\u{1b}[2J"));
    EXPECT_THAT(text, Not(HasSubstr("\xE2\x80\xAE")));
    EXPECT_THAT(text, Not(HasSubstr("\xff")));
  }
}

TEST(TextReport, LinesKeepToTheWidth) {
  Json json = with_rows(loan());
  json["tree"][5]["name"] = "信用历史中按时还款的次数与比例以及其他许多细节 with a very long name";
  for (const char* language : {"en", "zh"}) {
    for (const int width : {50, 80, 120}) {
      std::istringstream lines(text_report(json, language, {.width = width}));
      for (std::string line; std::getline(lines, line);) {
        EXPECT_LE(columns_of(line), width) << line;
      }
    }
  }
}

TEST(TextReport, ADocumentThatCannotBeReadSaysWhy) {
  const auto said = [](Json json) { return text_report(json, "en"); };
  EXPECT_EQ(said(Json::array()), "the explanation is no JSON object\n");
  Json json = loan();
  json["local"]["values"].erase(0);
  EXPECT_EQ(said(json), "the explanation's local.values has not one number for each of the 8 nodes of the tree\n");
  json = loan();
  json["tree"][3]["parent"] = 5;
  EXPECT_EQ(said(json), "node 3 of the explanation's tree does not come after its parent\n");
  json = loan();
  json["local"]["interactions"][0]["nodes"] = {1, 99};
  EXPECT_EQ(said(json), "an interaction in the explanation's local names a node that the tree does not have\n");
  json = loan();
  json["base"] = nullptr;
  EXPECT_EQ(said(json), "the explanation's base is no finite number\n");
  json = loan();
  json.erase("local");
  EXPECT_EQ(said(json), "the explanation has neither a sample ('local') nor all rows ('global')\n");
}

TEST(Figures, AreShortAndRight) {
  EXPECT_EQ(Figures::decimals_for(1.62), 2);
  EXPECT_EQ(Figures::decimals_for(0.41), 3);
  EXPECT_EQ(Figures::decimals_for(812), 0);
  const Figures figures{2, "-"};
  EXPECT_EQ(figures.with_sign(0.614), "+0.61");
  EXPECT_EQ(figures.with_sign(-1234567.891), "-1,234,567.89");
  EXPECT_EQ(figures.plain(0.0004), "0.0004");
  EXPECT_EQ(figures.plain(0), "0");
  EXPECT_EQ(figures.with_bar(0.5, 0.021), "+0.50 ±0.02");
  EXPECT_EQ(figures.with_bar(0.5, 0), "+0.50");
  EXPECT_EQ(percent(0.601), "60.1%");
  EXPECT_EQ(percent(0.99996), ">99.99%");
  EXPECT_EQ(percent(0.0042), "0.42%");
  EXPECT_EQ(columns_of("归因值 a"), 8);
  EXPECT_EQ(fitted("归因值归因值", 7), "归因值…");
}

}  // namespace
}  // namespace deepseek::explain
