// Whole runs on a tiny model: resume is bit for bit, a killed run goes on, early stopping, what is refused.
#include "train/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <map>

#include "base/json.h"
#include "models/decoder/load.h"
#include "train/step.h"
#include "train/checkpoint.h"

namespace deepseek::train {
namespace {

namespace fs = base::fs;
using Json = nlohmann::ordered_json;

class Trainer : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);  // libgomp does not survive a fork of a process that has used its threads
    scratch_ = fs::temp_directory_path() / ("deepseek-trainer-" + std::to_string(::getpid()));
    fs::remove_all(scratch_);
    fs::create_directories(scratch_);
  }
  void TearDown() override { fs::remove_all(scratch_); }

  [[nodiscard]] static std::unique_ptr<models::Decoder> model() {
    auto decoder = models::load_decoder(DEEPSEEK_SOURCE_DIR "/tests/golden/models/llama_gqa");
    EXPECT_TRUE(decoder);
    return std::move(*decoder);
  }

  // Sequences that repeat one of a few tokens: something a tiny model can learn.
  [[nodiscard]] static TrainingData data() {
    TrainingData out;
    for (int i = 0; i < 24; ++i) {
      models::TokenizedExample example;
      for (int t = 0; t < 6 + i % 7; ++t) example.tokens.push_back(t % 2 == 0 ? 10 + i % 4 : 40);
      example.counts.assign(example.tokens.size(), 1);
      example.counts[0] = 0;
      example.difficulty = i % 5;
      example.row = static_cast<size_t>(i) + 1;
      (i % 6 == 0 ? out.validation : out.train).push_back(example);
    }
    out.has_difficulty = true;
    out.hash = 77;
    return out;
  }

  [[nodiscard]] TrainOptions options(const std::string& name) const {
    TrainOptions out;
    out.output = scratch_ / name;
    out.adapter = {.rank = 4, .dropout = 0.1};
    out.steps = 12;
    out.batch_size = 4;
    out.learning_rate = 1e-2;
    out.curriculum_steps = 3;
    out.eval_every = 4;
    out.save_every = 2;
    return out;
  }

  [[nodiscard]] static std::string bytes(const fs::path& file) { return base::read_file(file).value_or("absent " + file.string()); }

  fs::path scratch_;
};

TEST_F(Trainer, LearnsAndWritesAllItsFiles) {
  const auto decoder = model();
  std::vector<std::string> types;
  auto summary = fine_tune(*decoder, data(), options("run"), {.event = [&](const Json& line) { types.push_back(line["type"]); }}, {});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->steps, 12);
  EXPECT_EQ(summary->reason, "finished");
  EXPECT_LT(summary->best_loss, 0.9 * summary->base_loss);
  EXPECT_EQ(types.front(), "start");
  EXPECT_EQ(types.back(), "end");
  EXPECT_EQ(std::count(types.begin(), types.end(), "stage"), 3);
  EXPECT_EQ(std::count(types.begin(), types.end(), "step"), 12);
  EXPECT_EQ(std::count(types.begin(), types.end(), "evaluation"), 4);
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "last/adapter_model.safetensors", "last/training_state.safetensors"}) {
    EXPECT_TRUE(fs::exists(scratch_ / "run" / file)) << file;
  }
  // The adapter in the output directory is the best one, and gives the loss that was reported for it.
  const auto fresh = model();
  ASSERT_TRUE(models::read_adapter(*fresh, scratch_ / "run"));
  EXPECT_NEAR(mean_loss(example_losses(*fresh, data().validation, 4096)), summary->best_loss, 1e-5);
}

TEST_F(Trainer, ResumedEqualsUninterruptedBitForBit) {
  const auto whole = model();
  ASSERT_TRUE(fine_tune(*whole, data(), options("whole"), {}, {}));
  for (const int stop_after : {1, 4, 5, 8, 11, 12}) {  // 4, 8 and 12: in the middle of an evaluation
    auto settings = options("parts" + std::to_string(stop_after));
    int steps = 0;
    const TrainHooks hooks{.event = [&](const Json& line) { steps += line["type"] == "step" ? 1 : 0; }, .stop = [&] { return steps == stop_after; }};
    const auto first = model();
    auto stopped = fine_tune(*first, data(), settings, hooks, {});
    ASSERT_TRUE(stopped) << stopped.error().message;
    EXPECT_EQ(stopped->reason, "interrupted");
    settings.resume = true;
    const auto second = model();
    auto resumed = fine_tune(*second, data(), settings, {}, {});
    ASSERT_TRUE(resumed) << resumed.error().message;
    EXPECT_EQ(resumed->steps, 12);
    for (const char* file : {"adapter_model.safetensors", "last/adapter_model.safetensors"}) {
      EXPECT_EQ(bytes(settings.output / file), bytes(scratch_ / "whole" / file)) << file << " after a stop at step " << stop_after;
    }
  }
}

TEST_F(Trainer, AKilledRunGoesOnAndEndsTheSame) {
  const auto whole = model();
  ASSERT_TRUE(fine_tune(*whole, data(), options("whole"), {}, {}));
  for (int kill_after = 3; kill_after <= 9; kill_after += 3) {
    auto settings = options("killed" + std::to_string(kill_after));
    const pid_t child = ::fork();
    if (child == 0) {
      // The child trains in one thread pool of its own and dies in the middle of a step's bookkeeping.
      int steps = 0;
      const auto decoder = model();
      const TrainHooks hooks{.event = [&](const Json& line) {
        steps += line["type"] == "step" ? 1 : 0;
        if (steps == kill_after) ::raise(SIGKILL);
      }};
      (void)fine_tune(*decoder, data(), settings, hooks, {});
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    settings.resume = true;
    const fs::path remains = settings.output / "last/training_state.safetensors.abc123.part";
    { const std::ofstream file(remains); }
    const auto decoder = model();
    auto resumed = fine_tune(*decoder, data(), settings, {}, {});
    ASSERT_TRUE(resumed) << resumed.error().message;
    EXPECT_FALSE(fs::exists(remains));
    EXPECT_EQ(bytes(settings.output / "adapter_model.safetensors"), bytes(scratch_ / "whole/adapter_model.safetensors"));
    // Each step once in the metrics, whatever was repeated.
    std::map<int64_t, int> seen;
    std::ifstream lines(settings.output / "metrics.jsonl");
    for (std::string line; std::getline(lines, line);) {
      const auto json = base::parse_json(line);
      ASSERT_TRUE(json) << line;
      if ((*json)["type"] == "step") ++seen[(*json)["step"].get<int64_t>()];
    }
    EXPECT_EQ(seen.size(), 12u);
    for (const auto& [step, count] : seen) EXPECT_EQ(count, 1) << "step " << step;
  }
}

TEST_F(Trainer, AFullDiskEndsTheRunAndTheLastCheckpointResumes) {
  auto settings = options("full");
  int steps = 0;
  {
    const auto decoder = model();
    const TrainHooks hooks{.event = [&](const Json& line) { steps += line["type"] == "step" ? 1 : 0; }, .stop = [&] { return steps == 4; }};
    ASSERT_TRUE(fine_tune(*decoder, data(), settings, hooks, {}));
  }
  const std::string before = bytes(settings.output / "last/training_state.safetensors");
  settings.resume = true;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20'000, 20'000};  // below the size of the state
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto decoder = model();
    const auto result = fine_tune(*decoder, data(), settings, {}, {});
    const std::string message = result ? "" : result.error().message;
    const bool told = message.find("File too large") != std::string::npos &&
                      message.find("step 4 is saved: when that is put right, the same command with --resume") != std::string::npos;
    ::_exit(told ? 7 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(bytes(settings.output / "last/training_state.safetensors"), before);
  const auto decoder = model();
  EXPECT_TRUE(fine_tune(*decoder, data(), settings, {}, {}));
}

TEST_F(Trainer, StoppedBeforeTheFirstStepNothingIsSavedAndTheSameCommandBeginsAnew) {
  std::vector<std::string> measured;
  const TrainHooks hooks{.stop = [] { return true; }, .measuring = [&](const char* what, size_t done, size_t all) {
    measured.emplace_back(what);
    EXPECT_LE(done, all);
  }};
  for (const auto difficulty : {Difficulty::kField, Difficulty::kLoss}) {
    auto settings = options("unstarted");
    settings.difficulty = difficulty;
    const auto decoder = model();
    auto stopped = fine_tune(*decoder, data(), settings, hooks, {});
    ASSERT_TRUE(stopped) << stopped.error().message;
    EXPECT_EQ(stopped->reason, "interrupted");
    EXPECT_FALSE(stopped->resumable);
    EXPECT_FALSE(fs::exists(settings.output / "last/training_state.safetensors"));
  }
  EXPECT_EQ(measured, (std::vector<std::string>{"held-out loss", "difficulty"}));
}

TEST_F(Trainer, ARunThatStoppedEarlyIsOverWhenResumed) {
  auto settings = options("over");
  settings.steps = 200;
  settings.eval_every = 1;
  settings.learning_rate = 0.3;
  settings.schedule = ScheduleKind::kConstant;
  settings.max_grad_norm = 0;
  settings.early_stopping = 3;
  const auto first = model(), second = model();
  auto stopped = fine_tune(*first, data(), settings, {}, {});
  ASSERT_TRUE(stopped);
  settings.resume = true;
  auto resumed = fine_tune(*second, data(), settings, {}, {});
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(resumed->steps, stopped->steps);
  EXPECT_EQ(resumed->reason, "early stopping");
}

TEST_F(Trainer, GradientAccumulationAndMicroBatchesEqualOneBigBatch) {
  auto big = options("big"), pieces = options("pieces"), accumulated = options("accumulated");
  for (auto* settings : {&big, &pieces, &accumulated}) settings->adapter.dropout = 0;
  pieces.micro_batch_tokens = 10;
  accumulated.batch_size = 2;
  accumulated.gradient_accumulation = 2;
  const auto one = model(), two = model(), three = model();
  auto a = fine_tune(*one, data(), big, {}, {}), b = fine_tune(*two, data(), pieces, {}, {}), c = fine_tune(*three, data(), accumulated, {}, {});
  ASSERT_TRUE(a && b && c);
  EXPECT_NEAR(a->best_loss, b->best_loss, 1e-4);
  EXPECT_NEAR(a->best_loss, c->best_loss, 1e-4);
}

TEST_F(Trainer, StopsEarlyAndKeepsTheBest) {
  auto settings = options("early");
  settings.steps = 200;
  settings.eval_every = 1;
  settings.learning_rate = 0.3;  // diverges
  settings.schedule = ScheduleKind::kConstant;
  settings.max_grad_norm = 0;
  settings.early_stopping = 3;
  const auto decoder = model();
  auto summary = fine_tune(*decoder, data(), settings, {}, {});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->reason, "early stopping");
  EXPECT_EQ(summary->steps, summary->best_step + 3);
}

TEST_F(Trainer, DifficultyByLossAsksTheBaseModel) {
  auto settings = options("loss");
  settings.difficulty = Difficulty::kLoss;
  const auto decoder = model();
  const auto rows = data();
  const auto expected = example_losses(*model(), rows.train, 4096);
  double hardest = 0;
  for (const auto& loss : expected) hardest = std::max(hardest, loss.sum / static_cast<double>(loss.counted));
  double last = 0;
  ASSERT_TRUE(fine_tune(*decoder, rows, settings, {.event = [&](const Json& line) {
    if (line["type"] == "stage") last = line["difficulty_to"].get<double>();
  }}, {}));
  EXPECT_NEAR(last, hardest, 1e-4);
}

TEST_F(Trainer, RefusesInOneSentence) {
  using ::testing::HasSubstr;
  const auto refusal = [&](const std::function<void(TrainOptions&)>& change, TrainingData rows) {
    auto settings = options("refused");
    change(settings);
    const auto decoder = model();
    auto result = fine_tune(*decoder, rows, settings, {}, {});
    return result ? "accepted" : result.error().message;
  };
  EXPECT_THAT(refusal([](auto& o) { o.batch_size = 0; }, data()), HasSubstr("--batch_size is 0"));
  EXPECT_THAT(refusal([](auto& o) { o.learning_rate = -1; }, data()), HasSubstr("--learning_rate is -1"));
  EXPECT_THAT(refusal([](auto& o) { o.warmup = 2; }, data()), HasSubstr("--warmup is 2"));
  EXPECT_THAT(refusal([](auto& o) { o.curriculum_steps = 0; }, data()), HasSubstr("--curriculum_steps is 0"));
  EXPECT_THAT(refusal([](auto& o) { o.adapter.rank = 0; }, data()), HasSubstr("rank of 0"));
  EXPECT_THAT(refusal([](auto& o) { o.resume = true; }, data()), HasSubstr("nothing to resume"));
  EXPECT_THAT(refusal([](auto&) {}, {}), HasSubstr("no rows to train on"));
  EXPECT_THAT(refusal([](auto& o) { o.batch_size = o.gradient_accumulation = 65536; }, data()), HasSubstr("makes 4294967296 examples a step"));
  EXPECT_THAT(refusal([](auto& o) { o.steps = 9'000'000'000; }, data()), HasSubstr("--steps 9000000000 would never end"));
  auto nothing_held_out = data();
  nothing_held_out.validation.clear();
  EXPECT_THAT(refusal([](auto& o) { o.early_stopping = 2; }, nothing_held_out), HasSubstr("--early_stopping needs held-out rows"));
  auto unrated = data();
  unrated.has_difficulty = false;
  EXPECT_THAT(refusal([](auto& o) { o.difficulty = Difficulty::kField; }, unrated), HasSubstr("not every training row has a difficulty"));
  { const std::ofstream file(scratch_ / "file"); }
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "file"; }, data()), HasSubstr("cannot create"));
  const auto decoder = model();
  ASSERT_TRUE(fine_tune(*decoder, data(), options("used"), {}, {}));
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; }, data()), HasSubstr("holds an earlier run"));
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; o.resume = true; o.learning_rate = 0.5; }, data()),
              HasSubstr("learning_rate was 0.01 when this run began and is 0.5 now"));
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; o.resume = true; o.schedule = ScheduleKind::kLinear; }, data()),
              HasSubstr("schedule was \"cosine\" when this run began and is \"linear\" now"));
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; o.resume = true; o.adapter.rank = 5; }, data()),
              HasSubstr("lora_rank was 4 when this run began and is 5 now"));
  auto other = data();
  other.hash = 78;
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; o.resume = true; }, other), HasSubstr("the dataset or its split"));
  fs::resize_file(scratch_ / "used/last/training_state.safetensors", 5000);
  EXPECT_THAT(refusal([&](auto& o) { o.output = scratch_ / "used"; o.resume = true; }, data()), HasSubstr("training_state.safetensors"));
}

}  // namespace
}  // namespace deepseek::train
