#include "train/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <regex>

#include "train/report/charts.h"
#include "train/report/vega.h"

namespace deepseek::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Report : public ::testing::Test {
 protected:
  Report() : folder_(base::fs::temp_directory_path() / ("report_test_" + std::to_string(::getpid()))) {
    base::fs::create_directories(folder_);
  }
  ~Report() override { base::fs::remove_all(folder_); }

  std::string page_of(const std::string& metrics) {
    EXPECT_TRUE(base::write_file_atomically(folder_ / "metrics.jsonl", metrics));
    const auto done = write_report(folder_ / "metrics.jsonl", folder_ / "page.html");
    EXPECT_TRUE(done) << done.error().message;
    return base::read_file(folder_ / "page.html").value_or("");
  }
  std::string example_page() {
    const auto metrics = base::read_file(base::fs::path(DEEPSEEK_SOURCE_DIR) / "src/train/report/test_metrics.jsonl");
    return page_of(metrics.value());
  }
  // The page without the charting library, whose text names addresses that it never opens.
  static std::string own_part(std::string page) {
    const auto at = vega_script().empty() ? std::string::npos : page.find(vega_script());
    if (at != std::string::npos) page.erase(at, vega_script().size());
    return page;
  }

  base::fs::path folder_;
};

// Every element that is opened is closed, in order.
void expect_well_formed(const std::string& page) {
  static const std::regex tag("<(/?)([a-z][a-z0-9]*)[^>]*?(/?)>");
  std::vector<std::string> open;
  for (std::sregex_iterator it(page.begin(), page.end(), tag), end; it != end; ++it) {
    const std::string name = (*it)[2];
    if (name == "meta" || (*it)[3] == "/") continue;
    if ((*it)[1] == "") {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty()) << "closed without being opened: " << name;
      ASSERT_EQ(open.back(), name);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST_F(Report, IsWellFormedAndHasEveryPart) {
  const std::string page = own_part(example_page());
  expect_well_formed(page);
  for (const char* part : {"gemma-3-270m: training run", "data/finance_qa.json", "268,098,176", "3,796,992", "98.58 % frozen",
                           "fall of held-out loss", "plot-loss", "plot-learning_rate", "plot-gradient_norm", "plot-speed",
                           "stage 3", "438 of 657", "lora_rank", "什么是复利", "finished", "5:0", "Unreadable lines skipped: 1"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
}

TEST_F(Report, LoadsNothingFromElsewhere) {
  const std::string page = own_part(example_page());
  EXPECT_THAT(page, Not(HasSubstr("http:")));
  EXPECT_THAT(page, Not(HasSubstr("https:")));
  EXPECT_FALSE(std::regex_search(page, std::regex("<(link|iframe|img|object|script[^>]* src)\\b")));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST_F(Report, EscapesHostileTexts) {
  const std::string page = own_part(example_page());
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, HasSubstr("&lt;/script&gt;&lt;script&gt;alert(1)"));
  const std::string hostile = R"({"type":"start","model":"</title><script>x","options":{"<b>":"</script>"},"dataset":5})";
  const std::string other = own_part(page_of(hostile + std::string("\n")));
  expect_well_formed(other);
  EXPECT_THAT(other, Not(HasSubstr("<script>x")));
  EXPECT_THAT(other, HasSubstr("&lt;b&gt;"));
}

TEST_F(Report, ALibraryThatEndsItsOwnScriptWouldBreakThePage) {
  EXPECT_EQ(vega_script().find("</script"), std::string_view::npos);
}

TEST_F(Report, StandsAbsurdLines) {
  const std::string page = own_part(page_of(
      "\n[]\nnull\n{\"type\":1}\n\xff\xfe\n{\"type\":\"step\",\"step\":1,\"loss\":1e308}\n{\"type\":\"step\",\"step\":-4,\"loss\":1}\n"
      "{\"type\":\"step\",\"step\":1e300,\"loss\":\"x\"}\n{\"type\":\"step\",\"step\":3,\"loss\":0.0,\"learning_rate\":-1e-300}\n"
      "{\"type\":\"evaluation\",\"step\":0,\"loss\":null}\n{\"type\":\"stage\"}\n{\"type\":\"end\",\"seconds\":1e200}\n"));
  expect_well_formed(page);
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf ")));
}

TEST_F(Report, TheLegendNamesEachColourOnce) {
  const std::string page = own_part(page_of("{\"type\":\"start\",\"model\":\"some/where/tiny\",\"threads\":1}\n"
                                            "{\"type\":\"step\",\"step\":1,\"loss\":3}\n{\"type\":\"evaluation\",\"step\":1,\"loss\":2}\n"));
  if (!vega_script().empty()) {
    EXPECT_THAT(page, HasSubstr("\"legend\":[\"training, smoothed (faint: each step)\",\"held-out\"]"));
  }
  EXPECT_THAT(page, HasSubstr("<h1>tiny: training run</h1>"));
  EXPECT_THAT(page, HasSubstr("1 thread<"));
}

TEST_F(Report, AResumedRunForgetsTheStepsAfterItsCheckpoint) {
  const auto run = parse_run(
      "{\"type\":\"step\",\"step\":1,\"loss\":3}\n{\"type\":\"step\",\"step\":2,\"loss\":9}\n{\"type\":\"resume\",\"step\":1}\n"
      "{\"type\":\"step\",\"step\":2,\"loss\":2}\n", "m");
  ASSERT_TRUE(run);
  EXPECT_EQ(run->steps.size(), 2U);
  EXPECT_EQ(number(run->steps.at(2), "loss"), 2);
}

TEST_F(Report, ALongRunMakesASmallPage) {
  std::string metrics;
  for (int step = 1; step <= 40000; ++step) metrics += fmt::format("{{\"type\":\"step\",\"step\":{},\"loss\":{}}}\n", step, 1.0 / step);
  EXPECT_LT(own_part(page_of(metrics)).size(), 600000U);
}

TEST_F(Report, MissingOrForeignFilesAreOneError) {
  const auto missing = write_report(folder_ / "absent.jsonl", folder_ / "page.html");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("absent.jsonl"));
  ASSERT_TRUE(base::write_file_atomically(folder_ / "foreign.jsonl", "hello\n"));
  const auto foreign = write_report(folder_ / "foreign.jsonl", folder_ / "page.html");
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message, HasSubstr("foreign.jsonl"));
  EXPECT_FALSE(base::fs::exists(folder_ / "page.html"));
}

}  // namespace
}  // namespace deepseek::train
