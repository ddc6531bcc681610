// Programs as models: what they are asked, and that no program hangs, floods or ends this process.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "explain/scorers/scorer_test.h"
#include "explain/scorers/wire.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ScorerOptions two_columns() {
  ScorerOptions options{.features = columns({"age", "job"}), .target = "income", .timeout = 20, .retries = 2};
  options.features[1].categories = {"baker", "cl\"erk"};
  return options;
}

// A program in Python that reads requests as `request`; `body` prints.
std::string python(const Folder& folder, const std::string& body) {
  const std::string path =
      folder.write("model.py", "import json, os, sys, time\nfor line in sys.stdin:\n    request = json.loads(line)\n    rows = request['rows']\n" + body +
                                   "\n    sys.stdout.flush()\n");
  return "command:python3 '" + path + "'";
}

// No child of this process is left, neither running nor dead.
void expect_no_children() { EXPECT_TRUE(::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD); }

TEST(Command, GetsColumnsAndTextsAndGivesScores) {
  const Folder folder;
  {
    auto options = two_columns();
    options.batch = 2;
    options.probe = {31, 1};
    const auto model =
        open_table_model(python(folder, "    sys.stderr.write('')\n    open('" + (folder / "seen").string() +
                                            "', 'a').write(line)\n"
                                            "    print(json.dumps({'scores': [[r[0] or 0, len(r[1] or '')] for r in rows], 'outputs': ['a', 'b']}))"),
                         options);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->kind, "command");
    EXPECT_EQ(model->target, "income");
    EXPECT_THAT(model->outputs, ElementsAre("a", "b"));
    const std::vector<double> rows{39, 0, 2.5, 1, std::nan(""), std::nan("")};
    expect_near(model->score(rows), {39, 5, 2.5, 6, 0, 0}, 0);
  }
  const auto seen = base::read_file(folder / "seen");
  ASSERT_TRUE(seen);
  EXPECT_EQ(*seen, R"({"columns": ["age", "job"], "rows": [[31, "cl\"erk"]]}
{"columns": ["age", "job"], "rows": [[39, "baker"], [2.5, "cl\"erk"]]}
{"columns": ["age", "job"], "rows": [[null, null]]}
)");
  expect_no_children();
}

TEST(Command, DiesMidwayAndIsStartedAgain) {
  const Folder folder;
  const std::string flag = (folder / "died").string();
  const auto model = open_table_model(python(folder, "    if len(rows) > 1 and not os.path.exists('" + flag + "'):\n        open('" + flag +
                                                         "', 'w')\n        os._exit(3)\n"
                                                         "    print(json.dumps({'scores': [r[0] for r in rows]}))"),
                                      two_columns());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_THAT(model->outputs, ElementsAre("income"));
  const std::vector<double> rows{1, 0, 2, 0};
  expect_near(model->score(rows), {1, 2}, 0);
  EXPECT_TRUE(fs::exists(flag));
}

TEST(Command, DeathsAreSaid) {
  EXPECT_THAT(message_of(open_table_model("command:exit 3", two_columns())),
              HasSubstr("it ended with exit code 3 before it answered, 3 times for the same batch"));
  EXPECT_THAT(message_of(open_table_model("command:kill -11 $$", two_columns())), HasSubstr("it died by signal 11"));
  EXPECT_THAT(message_of(open_table_model("command:exit 0", two_columns())), HasSubstr("the program 'exit 0': it ended with exit code 0"));
  EXPECT_THAT(message_of(open_table_model("command:/nowhere/program 2>/dev/null", two_columns())), HasSubstr("the shell found no such program"));
  EXPECT_THAT(message_of(open_table_model("command:true", {.features = {}})), HasSubstr("which columns"));
  expect_no_children();
}

TEST(Command, HangsUntilTheTimeoutWithAllItsProcesses) {
  const Folder folder;
  auto options = two_columns();
  options.timeout = 0.3;
  options.retries = 1;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(message_of(open_table_model("command:trap '' TERM INT; sleep 1000 & echo $! > '" + (folder / "pid").string() + "'; sleep 1000", options)),
              HasSubstr("it gave no answer within 0.3 s, 2 times for the same batch"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  const auto pid = base::read_file(folder / "pid");
  ASSERT_TRUE(pid);
  // Its own children are killed too; who collects them is the machine's init, which takes its time.
  std::string state = "running";
  for (int i = 0; i < 200 && !state.empty() && state.find(") Z ") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    state.clear();
    std::ifstream stat(fmt::format("/proc/{}/stat", std::stoi(*pid)));
    std::getline(stat, state);
  }
  EXPECT_TRUE(state.empty() || state.find(") Z ") != std::string::npos) << state;
  expect_no_children();
}

TEST(Command, StopEndsTheWaitAtOnce) {
  auto options = two_columns();
  const auto start = std::chrono::steady_clock::now();
  options.stop_requested = [&] { return std::chrono::steady_clock::now() - start > std::chrono::milliseconds(200); };
  EXPECT_THAT(message_of(open_table_model("command:sleep 1000", options)), HasSubstr("interrupted"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  expect_no_children();
}

TEST(Command, WrongAnswersGetOneSentence) {
  for (const auto& [line, expected] : std::vector<std::pair<std::string, std::string>>{{"Loading ...", "no JSON: Loading ..."},
                                                                                       {R"({"scores": [NaN]})", "holds NaN or Infinity"},
                                                                                       {R"({"scores": [1e999]})", ""},
                                                                                       {R"({"scores": [null]})", "the score of row 0 is null"},
                                                                                       {R"({"scores": ["1"]})", "no number"},
                                                                                       {R"({"scores": [true]})", "no number"},
                                                                                       {R"({"scores": [1, 2]})", "scores for 2 rows of 1"},
                                                                                       {R"({"scores": []})", "scores for 0 rows of 1"},
                                                                                       {R"({"scores": [[]]})", "are empty"},
                                                                                       {R"({"scores": 1})", "is no list"},
                                                                                       {R"({"score": [1]})", "has no \"scores\""},
                                                                                       {"[1]", "has no \"scores\""},
                                                                                       {R"({"scores": [[1, 2]], "outputs": ["a"]})", "no list of 2 names"},
                                                                                       {R"({"scores": [[1, 2]], "outputs": ["a", "a"]})", "'a' twice"},
                                                                                       {std::string(100'000, '['), "no JSON"},
                                                                                       {"\xff\x01", "no JSON"}}) {
    const Folder folder;
    const std::string message = message_of(open_table_model("command:read line; cat '" + folder.write("answer", line + "\n") + "'", two_columns()));
    EXPECT_THAT(message, HasSubstr(expected)) << line;
    EXPECT_THAT(message, HasSubstr("the program 'read line; cat "));
    EXPECT_LT(message.size(), 600u);
  }
  EXPECT_THAT(message_of(open_table_model("command:read line; head -c 100000000 /dev/zero", two_columns())), HasSubstr("more than 1.0 MiB without a line end"));
  expect_no_children();
}

TEST(Command, LaterAnswersMustFitTheFirst) {
  const Folder folder;
  const std::vector<double> rows{1, 0, 2, 0};
  const auto narrower = open_table_model(python(folder, "    print(json.dumps({'scores': [1.0] * len(rows) if len(rows) > 1 else [[1, 2]]}))"), two_columns());
  ASSERT_TRUE(narrower) << narrower.error().message;
  EXPECT_THAT(message_of(narrower->score(rows)), HasSubstr("1 scores for a row, after 2"));
  const auto talker = open_table_model(python(folder, "    print(json.dumps({'scores': [1.0] * len(rows)}) + '\\n{\"scores\": [5, 5]}')"), two_columns());
  ASSERT_TRUE(talker) << talker.error().message;
  EXPECT_THAT(message_of(talker->score(rows)), HasSubstr("more than one line for a batch"));
}

TEST(Command, LargeBatchesDoNotBlock) {
  // Answers while it reads would fill both pipes; this one writes a megabyte for each batch of some megabytes.
  const Folder folder;
  auto options = two_columns();
  options.batch = 100'000;
  const auto model = open_table_model(python(folder, "    print(json.dumps({'scores': [r[0] + 0.123456789 for r in rows]}))"), options);
  ASSERT_TRUE(model) << model.error().message;
  std::vector<double> rows, expected;
  for (int r = 0; r < 100'000; ++r) {
    rows.insert(rows.end(), {r + 0.5, static_cast<double>(r % 2)});
    expected.push_back(r + 0.623456789);
  }
  expect_near(model->score(rows), expected, 1e-12);
}

TEST(Command, AProgramThatReadsNothingRaisesNoSigpipe) {
  ASSERT_NE(std::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  auto options = two_columns();
  options.retries = 0;
  const auto model = open_table_model("command:read line; echo '{\"scores\": [1]}'; exec 0<&-; sleep 0.2; exit 4", options);
  ASSERT_TRUE(model) << model.error().message;
  const std::vector<double> rows(400'000, 1.0);
  EXPECT_THAT(message_of(model->score(rows)), HasSubstr("exit code 4"));
}

}  // namespace
}  // namespace deepseek::explain
