// Files that survive a full disk, JSON and patterns from hostile hands, and the words that people read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pattern.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"

namespace deepseek::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Files : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  [[nodiscard]] size_t count() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator())); }
  const fs::path folder_ = fs::temp_directory_path() / ("deepseek-base-" + std::to_string(::getpid()));
  const fs::path file_ = folder_ / "file";
};

TEST_F(Files, AreWrittenWholeOrNotAtAll) {
  ASSERT_TRUE(write_file_atomically(file_, "old"));
  // A limit on a file's size fails a write as a full disk does.
  install_signal_handlers();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto full = write_file_atomically(file_, std::string(1 << 20, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(full);
  EXPECT_THAT(full.error().message, HasSubstr("the old file, if any, is unchanged"));
  EXPECT_EQ(*read_file(file_), "old");
  EXPECT_EQ(count(), 1u);
  {
    auto left = AtomicFile::create(file_);
    ASSERT_TRUE(left);
    ASSERT_TRUE(left->write("never committed"));
    EXPECT_EQ(count(), 2u);
  }
  EXPECT_EQ(*read_file(file_), "old");
  EXPECT_EQ(count(), 1u);
  ASSERT_TRUE(write_file_atomically(file_, "new"));
  EXPECT_EQ(*read_file(file_), "new");
}

TEST_F(Files, HaveTheModeThatTheUmaskAllows) {
  const mode_t mask = ::umask(027);
  ASSERT_TRUE(write_file_atomically(file_, "x"));
  ::umask(mask);
  EXPECT_EQ(fs::status(file_).permissions(), fs::perms(0640));
}

TEST_F(Files, WhatIsNoFileIsNeitherReadNorReplaced) {
  ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
  EXPECT_THAT(write_file_atomically(file_, "x").error().message, HasSubstr("no regular file"));
  EXPECT_TRUE(fs::is_fifo(file_));
  EXPECT_THAT(read_file(folder_).error().message, HasSubstr("not a regular file"));
  EXPECT_THAT(read_file(folder_ / "none").error().message, HasSubstr("No such file"));
  EXPECT_THAT(write_file_atomically(folder_ / "none" / "file", "x").error().message, HasSubstr("No such file"));
  std::ofstream(folder_ / "empty");
  EXPECT_EQ(*read_file(folder_ / "empty"), "");
  std::ofstream(folder_ / "long") << "12345";
  EXPECT_THAT(read_file(folder_ / "long", 4).error().message, HasSubstr("5 bytes is more than the 4"));
}

TEST(Json, HostileTextIsRefusedWithItsPlace) {
  EXPECT_EQ((*parse_json(R"({"b":[1],"a":2})")).dump(), R"({"b":[1],"a":2})");
  EXPECT_THAT(parse_json("{\n  \"a\": }").error().message, HasSubstr("line 2"));
  EXPECT_THAT(parse_json("\"\xff\"").error().message, HasSubstr("UTF-8"));
  EXPECT_TRUE(is_utf8(parse_json("\"\xff\"").error().message));
  EXPECT_THAT(parse_json(std::string(1'000'000, '[')).error().message, HasSubstr("nested more than 128"));
  EXPECT_TRUE(parse_json(std::string(128, '[') + std::string(128, ']')));
  EXPECT_TRUE(parse_json('"' + std::string(1000, '[') + "\\\"" + '"'));  // brackets inside a string
  EXPECT_FALSE(parse_large_json("{} {}"));
}

TEST(Patterns, MatchAndEnd) {
  const auto pattern = Pattern::compile("layers\\.(\\d+)(x)?");
  ASSERT_TRUE(pattern);
  EXPECT_TRUE(pattern->matches_all("layers.12"));
  EXPECT_FALSE(pattern->matches_all("layers.12.q"));
  EXPECT_FALSE(pattern->matches_all("my layers.12"));
  EXPECT_THAT(pattern->match_prefix("layers.7.q"), ElementsAre("layers.7", "7"));
  EXPECT_TRUE(pattern->match_prefix("q").empty());
  const auto broken = Pattern::compile("ab(");
  EXPECT_EQ(broken.error().kind, ErrorKind::kRequest);
  EXPECT_THAT(broken.error().message, HasSubstr("wrong at character"));
  EXPECT_FALSE(Pattern::compile("(a+)+b")->matches_all(std::string(60, 'a')));  // exponential without a limit
}

TEST(Text, SuggestsOnlyWhatMayBeMeant) {
  const std::vector<std::string> names{"gemma-3-270m", "deepseek-7b", "qwen3-0.6b"};
  EXPECT_EQ(nearest("gema-3-270m", names), "gemma-3-270m");
  EXPECT_EQ(nearest("deepseek7b", names), "deepseek-7b");
  EXPECT_EQ(nearest("mistral", names), "");
  EXPECT_EQ(nearest("x", {}), "");
  EXPECT_EQ(nearest("fr", {"en", "zh"}), "");
}

TEST(Text, AmountsAsPeopleReadThem) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(uint64_t{312} << 20), "312 MiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16777216 TiB");
  EXPECT_EQ(human_duration(65), "1:05");
  EXPECT_EQ(human_duration(7387), "2:03:07");
  EXPECT_EQ(human_duration(-3), "0:00");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1'234'567), "1,234,567");
}

// Expected values: Python's bytes.decode("utf-8", "replace").
TEST(Text, IllFormedUtf8BecomesReplacementCharacters) {
  const std::string bad = "\xEF\xBF\xBD";
  for (const auto& [text, valid] : std::vector<std::pair<std::string, std::string>>{
           {"ok 利率", "ok 利率"}, {"a\xff", "a" + bad}, {"\xe5\x88", bad}, {"\xe5\x88" "b", bad + "b"}, {"\xc0\xaf", bad + bad},
           {"\xed\xa0\x80", bad + bad + bad}, {"\xf0\x9f\x98", bad}, {"\xf4\x90\x80\x80", bad + bad + bad + bad}}) {
    EXPECT_EQ(to_valid_utf8(text), valid);
    EXPECT_EQ(is_utf8(text), text == valid);
    EXPECT_TRUE(is_utf8(to_valid_utf8(text)));
  }
}

TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  ::testing::internal::CaptureStderr();
  {
    Progress progress("loss", 1000, "token");
    progress.update(250, "F1 0.5");
    progress.update(600);  // too soon for another line
    progress.update(1000);
    log_warn("between");
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(text, "loss  250/1,000 [====            ]  25%  F1 0.5\nwarning: between\nloss  1,000/1,000 [================] 100%\n");
  ::testing::internal::CaptureStderr();
  { const Progress unused("never begun", 10, "step"); }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Signals, CtrlCIsNotedAndMayBeForgiven) {
  install_signal_handlers();
  EXPECT_FALSE(interrupted());
  std::raise(SIGINT);
  EXPECT_TRUE(interrupted());
  clear_interruption();
  EXPECT_FALSE(interrupted());
  const auto killed = [] {
    std::raise(SIGTERM);
    clear_interruption();
    if (interrupted()) std::raise(SIGTERM);
  };
  EXPECT_EXIT(killed(), ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace deepseek::base
