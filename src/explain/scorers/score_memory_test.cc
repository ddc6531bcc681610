// Scores that outlive a process: what is asked again, and what a damaged or foreign file does.
#include "explain/scorers/score_memory.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>

#include "explain/scorers/scorer_test.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::HasSubstr;

// Two outputs of two features; counts the rows that it was asked for.
TableModel counting(std::shared_ptr<size_t> asked, size_t fails_after = SIZE_MAX) {
  TableModel model{.kind = "test", .features = columns({"a", "b"}), .outputs = {"x", "y"}};
  model.score = [asked, fails_after](std::span<const double> rows) -> base::Result<std::vector<double>> {
    if (*asked + rows.size() / 2 > fails_after) return base::fail("enough");
    *asked += rows.size() / 2;
    std::vector<double> scores;
    for (size_t i = 0; i < rows.size(); i += 2) scores.insert(scores.end(), {rows[i] + rows[i + 1], rows[i] - 3});
    return scores;
  };
  return model;
}

std::vector<double> some_rows(size_t count, double shift = 0) {
  std::vector<double> rows;
  for (size_t i = 0; i < count; ++i) rows.insert(rows.end(), {static_cast<double>(i) + shift, 0.5});
  return rows;
}
std::vector<double> scores_for(const std::vector<double>& rows) {
  auto none = std::make_shared<size_t>(0);
  return *counting(none).score(rows);
}

class Memory : public ::testing::Test {
 protected:
  // The scores of rows in a run of its own, and how many the model was asked for.
  size_t run(const std::vector<double>& rows, const std::string& identity = "model 1") {
    auto asked = std::make_shared<size_t>(0);
    const auto model = remember_scores(counting(asked), folder / "scores", identity);
    EXPECT_TRUE(model) << model.error().message;
    if (model) expect_near(model->score(rows), scores_for(rows), 0);
    return *asked;
  }
  [[nodiscard]] std::string content() const { return *base::read_file(folder / "scores"); }

  Folder folder;
};

TEST_F(Memory, AsksForNewRowsOnly) {
  EXPECT_EQ(run(some_rows(10)), 10u);
  EXPECT_EQ(run(some_rows(10)), 0u);
  EXPECT_EQ(run(some_rows(12)), 2u);
  auto twice = some_rows(20);
  const auto again = some_rows(20);
  twice.insert(twice.end(), again.begin(), again.end());
  EXPECT_EQ(run(twice), 8u);
  EXPECT_EQ(run(some_rows(20)), 0u);
}

TEST_F(Memory, KnowsRowsByTheirBits) {
  EXPECT_EQ(run({0.0, 1}), 1u);
  EXPECT_EQ(run({std::nextafter(0.0, 1.0), 1}), 1u);
  EXPECT_EQ(run({1, 0}), 1u);
}

TEST_F(Memory, KeepsWhatWasAnsweredBeforeAFailure) {
  auto asked = std::make_shared<size_t>(0);
  {
    const auto model = remember_scores(counting(asked, 5000), folder / "scores", "model 1");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_THAT(message_of(model->score(some_rows(10'000))), HasSubstr("enough"));
  }
  EXPECT_GT(*asked, 0u);
  EXPECT_EQ(run(some_rows(10'000)), 10'000 - *asked);
}

TEST_F(Memory, ATornEndIsWrittenOver) {
  run(some_rows(10));
  const std::string whole = content();
  const size_t record = 16 + 2 * 8 + 8;
  ASSERT_EQ(whole.size(), 32 + 10 * record);
  for (size_t cut = 1; cut < record; cut += 7) {
    folder.write("scores", whole.substr(0, whole.size() - cut));
    EXPECT_EQ(run(some_rows(10)), 1u) << cut;
    EXPECT_EQ(content(), whole) << cut;
  }
  folder.write("scores", whole + "torn");
  EXPECT_EQ(run(some_rows(10)), 0u);
  EXPECT_EQ(content(), whole);
}

TEST_F(Memory, DamageIsNotBelieved) {
  run(some_rows(10));
  const std::string whole = content();
  for (size_t at = 32; at < whole.size(); at += 3) {
    std::string changed = whole;
    changed[at] ^= 0x40;
    folder.write("scores", changed);
    const size_t lost = 10 - (at - 32) / 40;
    EXPECT_EQ(run(some_rows(10)), lost) << at;
  }
  std::string zeros = whole;
  std::fill(zeros.end() - 200, zeros.end(), '\0');  // as some file systems leave after a power cut
  folder.write("scores", zeros);
  EXPECT_EQ(run(some_rows(10)), 5u);
}

TEST_F(Memory, AnEmptyFileOrACutHeaderIsANewFile) {
  run(some_rows(3));
  const std::string whole = content();
  for (const size_t size : {size_t{0}, size_t{3}, size_t{8}, size_t{31}}) {
    folder.write("scores", whole.substr(0, size));
    EXPECT_EQ(run(some_rows(3)), 3u) << size;
  }
}

TEST_F(Memory, OtherFilesAreRefusedAndLeft) {
  run(some_rows(3));
  const std::string whole = content();
  auto asked = std::make_shared<size_t>(0);
  EXPECT_THAT(message_of(remember_scores(counting(asked), folder / "scores", "model 2")), HasSubstr("the scores of another model"));
  auto narrow = counting(asked);
  narrow.outputs = {"x"};
  EXPECT_THAT(message_of(remember_scores(narrow, folder / "scores", "model 1")), HasSubstr("the scores of another model"));
  EXPECT_EQ(content(), whole);
  for (const std::string& text : {std::string("age,job\n"), std::string(100, 'x'), std::string("dsscor")}) {
    folder.write("other", text);
    const auto result = remember_scores(counting(asked), folder / "other", "model 1");
    if (text == "dsscor") continue;  // the beginning of a header
    EXPECT_THAT(message_of(result), HasSubstr("holds no scores"));
    EXPECT_EQ(*base::read_file(folder / "other"), text);
  }
  std::string newer = whole;
  newer[8] = 9;
  folder.write("scores", newer);
  EXPECT_THAT(message_of(remember_scores(counting(asked), folder / "scores", "model 1")), HasSubstr("version 9"));
  EXPECT_THAT(message_of(remember_scores(counting(asked), folder / "no" / "scores", "model 1")), HasSubstr("No such file"));
  EXPECT_THAT(message_of(remember_scores(counting(asked), "/", "model 1")), HasSubstr("cannot write"));
}

TEST_F(Memory, OneWriterAtATime) {
  auto asked = std::make_shared<size_t>(0);
  auto first = remember_scores(counting(asked), folder / "scores", "model 1");
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_THAT(message_of(remember_scores(counting(asked), folder / "scores", "model 1")), HasSubstr("another process writes scores"));
  first = base::fail("gone");
  EXPECT_TRUE(remember_scores(counting(asked), folder / "scores", "model 1"));
}

TEST_F(Memory, AFullDiskIsSaidOnceAndLosesNothing) {
  run(some_rows(10));
  auto asked = std::make_shared<size_t>(0);
  {
    const auto model = remember_scores(counting(asked), folder / "scores", "model 1");
    ASSERT_TRUE(model) << model.error().message;
    // A limit on the size of files fails as a full disk does.
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit tight{.rlim_cur = 32 + 12 * 40 + 7, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    const auto result = model->score(some_rows(40));
    const auto later = model->score(some_rows(40)), more = model->score(some_rows(5, 100));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_THAT(message_of(result), HasSubstr("what it holds stays good"));
    expect_near(later, scores_for(some_rows(40)), 0);
    expect_near(more, scores_for(some_rows(5, 100)), 0);
    EXPECT_EQ(*asked, 35u);
  }
  EXPECT_EQ(content().size(), 32 + 10 * 40u);
  EXPECT_EQ(run(some_rows(40)), 30u);
}

}  // namespace
}  // namespace deepseek::explain
