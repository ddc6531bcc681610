// Sampling, stop strings, streaming and metrics.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>

#include "engine/answer_metrics.h"
#include "engine/generator.h"
#include "engine/perplexity.h"
#include "engine/sampler.h"
#include "engine/stop_matcher.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

namespace deepseek::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr float kNever = -std::numeric_limits<float>::infinity();
const std::string kModels = DEEPSEEK_SOURCE_DIR "/tests/golden/models/";

TEST(Sampler, FormulasAreTransformers) {
  // RepetitionPenaltyLogitsProcessor(2), TemperatureLogitsWarper(0.5) on [1, -1, 2, 0.5] with tokens 0 and 1 seen.
  std::vector<float> logits{1, -1, 2, 0.5f};
  ASSERT_TRUE(process_logits(logits, {{0, 3}, {1, 1}}, {}, {.temperature = 0.5, .repetition_penalty = 2}));
  EXPECT_THAT(logits, ElementsAre(1.0f, -4.0f, 4.0f, 1.0f));
  // Presence 0.5 and frequency 0.25 as OpenAI defines them: 0.5 + 0.25 * 3.
  logits = {1, 1, 1, 1};
  ASSERT_TRUE(process_logits(logits, {}, {{2, 3}}, {.presence_penalty = 0.5, .frequency_penalty = 0.25}));
  EXPECT_THAT(logits, ElementsAre(1.0f, 1.0f, -0.25f, 1.0f));
  // TopKLogitsWarper keeps ties with the k-th.
  logits = {1, 3, 2, 2, 0};
  ASSERT_TRUE(process_logits(logits, {}, {}, {.top_k = 2}));
  EXPECT_THAT(logits, ElementsAre(kNever, 3.0f, 2.0f, 2.0f, kNever));
  // Probabilities 0.5, 0.3, 0.15, 0.05: top-p 0.7 keeps the first two (0.05 + 0.15 <= 0.3), min-p 0.2 all above 0.1.
  logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  auto top_p = logits, min_p = logits;
  ASSERT_TRUE(process_logits(top_p, {}, {}, {.top_p = 0.7}));
  EXPECT_THAT(top_p, ElementsAre(logits[0], logits[1], kNever, kNever));
  ASSERT_TRUE(process_logits(min_p, {}, {}, {.min_p = 0.2}));
  EXPECT_THAT(min_p, ElementsAre(logits[0], logits[1], logits[2], kNever));
  logits = {1, NAN};
  EXPECT_FALSE(process_logits(logits, {}, {}, {}));
  logits = {kNever, kNever};
  EXPECT_FALSE(process_logits(logits, {}, {}, {}));
}

TEST(Sampler, DrawsFromTheDistribution) {
  Sampler sampler({.seed = 3}, {});
  const std::vector<double> p{0.5, 0.3, 0.15, 0.05};
  std::vector<int> counts(4);
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> logits;
    for (const double q : p) logits.push_back(static_cast<float>(std::log(q)));
    ++counts[static_cast<size_t>(*sampler.next(logits))];
  }
  double chi_squared = 0;
  for (size_t i = 0; i < p.size(); ++i) chi_squared += std::pow(counts[i] - kDraws * p[i], 2) / (kDraws * p[i]);
  EXPECT_LT(chi_squared, 16.3);  // 0.1% of a chi-squared distribution with 3 degrees of freedom
}

TEST(Sampler, GreedyAndSeeds) {
  std::vector<float> logits{1, 5, 5};
  Sampler greedy({.temperature = 0}, {});
  EXPECT_EQ(*greedy.next(logits), 1);
  const auto drawn = [](uint64_t seed) {
    Sampler sampler({.seed = seed}, {});
    std::vector<int32_t> out;
    for (int i = 0; i < 20; ++i) {
      std::vector<float> flat(50, 0.0f);
      out.push_back(*sampler.next(flat));
    }
    return out;
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
}

TEST(Sampler, AbsurdOptionsAreRefused) {
  const auto refusal = [](const SamplingOptions& options) { return validate(options) ? "" : validate(options).error().message; };
  EXPECT_THAT(refusal({.temperature = -1}), HasSubstr("temperature is -1"));
  EXPECT_THAT(refusal({.temperature = NAN}), HasSubstr("temperature is nan"));
  EXPECT_THAT(refusal({.top_k = -2}), HasSubstr("top_k is -2"));
  EXPECT_THAT(refusal({.top_p = 0}), HasSubstr("top_p is 0"));
  EXPECT_THAT(refusal({.min_p = 2}), HasSubstr("min_p is 2"));
  EXPECT_THAT(refusal({.repetition_penalty = 0}), HasSubstr("repetition_penalty is 0"));
  EXPECT_EQ(refusal({}), "");
}

TEST(StopMatcher, HowTheStreamIsCutMakesNoDifference) {
  const std::string text = "one END of EN the ENDING 利率";
  for (const auto& [stops, expected] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"ENDI"}, "one END of EN the "}, {{"END"}, "one "}, {{"xyz"}, text}, {{"利"}, "one END of EN the ENDING "}, {{"END of EN the!", "of"}, "one END "}}) {
    for (size_t size = 1; size < text.size(); ++size) {
      StopMatcher matcher(stops);
      std::string shown;
      for (size_t at = 0; at < text.size(); at += size) shown += matcher.push(text.substr(at, size));
      shown += matcher.finish();
      EXPECT_EQ(shown, expected) << "cut into " << size;
      EXPECT_EQ(matcher.stopped(), expected != text);
    }
  }
  EXPECT_FALSE(StopMatcher::validate({""}));
  EXPECT_FALSE(StopMatcher::validate({"\xFF"}));
}

TEST(AnswerMetrics, AreThoseOfSquad) {
  EXPECT_EQ(normalize_answer("The  Quick, brown fox!"), "quick brown fox");
  EXPECT_EQ(normalize_answer("利率 上升。"), "利 率 上 升");
  EXPECT_EQ(score_answer("the cat sat", {"Cat sat."}).exact_match, 1);
  EXPECT_NEAR(score_answer("a cat sat down", {"the cat ran"}).f1, 2 * (1.0 / 3) * 0.5 / (1.0 / 3 + 0.5), 1e-12);
  EXPECT_EQ(score_answer("", {"the"}).f1, 1);
  EXPECT_EQ(score_answer("x", {}).f1, 0);
  EXPECT_NEAR(*final_number("2 + 3. Answer: $1,234.50 (about)"), 1234.5, 1e-9);
  EXPECT_NEAR(*final_number("答案：-7.5%"), -7.5, 1e-9);
  EXPECT_NEAR(*final_number("it is 3e-2"), 0.03, 1e-12);
  EXPECT_FALSE(final_number("none"));
  EXPECT_EQ(numeric_match("Answer: 100.001", "Answer: 100"), true);
  EXPECT_EQ(numeric_match("Answer: 101", "Answer: 100"), false);
  EXPECT_EQ(numeric_match("no idea", "Answer: 100"), false);
  EXPECT_EQ(numeric_match("12", "a word"), std::nullopt);
}

struct Tiny {
  std::unique_ptr<models::Decoder> decoder;
  std::unique_ptr<LanguageModel> model;
  formats::Tokenizer tokenizer;
};

Tiny tiny() {
  auto decoder = models::load_decoder(kModels + "llama_gqa");
  auto tokenizer = formats::Tokenizer::open(kModels + "llama_gqa");
  EXPECT_TRUE(decoder && tokenizer);
  auto model = plain_model(**decoder);
  return {std::move(*decoder), std::move(model), std::move(*tokenizer)};
}

TEST(Generator, GreedyTextIsTransformers) {
  const Tiny model = tiny();
  const models::Golden golden(kModels + "llama_gqa/golden.safetensors");
  const std::string key = golden.has("greedy_1") ? "greedy_1" : "greedy";
  const auto expected = golden.ids(key);
  GenerateOptions options{.max_new_tokens = static_cast<int64_t>(expected.size()), .sampling = {.temperature = 0}, .ignore_eos = true};
  std::string streamed;
  options.on_text = [&](std::string_view piece) {
    streamed += piece;
    return true;
  };
  const auto out = generate(*model.model, model.tokenizer, golden.ids("ids_1"), options);
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->ids, expected);
  EXPECT_EQ(streamed, out->text);
  EXPECT_EQ(out->finish_reason, FinishReason::kLength);
  // Its third token as the end of text.
  options.ignore_eos = false;
  options.eos_ids = {expected[2]};
  const auto ended = generate(*model.model, model.tokenizer, golden.ids("ids_1"), options);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->finish_reason, FinishReason::kEos);
  EXPECT_LE(ended->ids.size(), 3u);
}

TEST(Generator, AChatReusesWhatItHasSeen) {
  const Tiny model = tiny();
  Chat chat(*model.model, model.tokenizer);
  const GenerateOptions options{.max_new_tokens = 8, .sampling = {.temperature = 0}, .ignore_eos = true};
  std::vector<int32_t> prompt{1, 5, 9, 30, 41};
  auto first = chat.reply(prompt, options);
  ASSERT_TRUE(first);
  prompt.insert(prompt.end(), first->ids.begin(), first->ids.end());
  prompt.insert(prompt.end(), {7, 8});
  auto second = chat.reply(prompt, options);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->reused_tokens, 12);  // all but the last new token, whose step was never run
  EXPECT_EQ(second->ids, generate(*model.model, model.tokenizer, prompt, options)->ids);
  chat.reset();
  EXPECT_EQ(chat.cached_tokens(), 0);
}

TEST(Generator, StopsWhenAskedAndRefusesWhatCannotBe) {
  const Tiny model = tiny();
  int pieces = 0;
  GenerateOptions options{.max_new_tokens = 50, .sampling = {.temperature = 0}, .ignore_eos = true};
  options.stop_requested = [&] { return ++pieces > 5; };
  EXPECT_EQ(generate(*model.model, model.tokenizer, {1, 2}, options)->finish_reason, FinishReason::kInterrupted);
  options.stop_requested = {};
  const auto refusal = [&](const std::vector<int32_t>& prompt, const GenerateOptions& o) {
    auto out = generate(*model.model, model.tokenizer, prompt, o);
    return out ? "accepted" : out.error().message;
  };
  EXPECT_THAT(refusal({}, options), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal({99'999'999}, options), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(refusal(std::vector<int32_t>(5000, 1), options), HasSubstr("the prompt has 5000 tokens"));
  options.max_new_tokens = 0;
  EXPECT_THAT(refusal({1}, options), HasSubstr("max_new_tokens is 0"));
}

// Guesses that are right, wrong, and sometimes either.
class Guesser : public Drafter {
 public:
  explicit Guesser(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
  base::Result<std::vector<int32_t>> propose(std::span<const int32_t> history, int64_t most) override {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < most; ++i) out.push_back(ids_[(history.size() + static_cast<size_t>(i)) % ids_.size()]);
    return out;
  }

 private:
  std::vector<int32_t> ids_;
};

TEST(Speculation, GreedyTextDoesNotChange) {
  const Tiny model = tiny(), draft = tiny();
  const models::Golden golden(kModels + "llama_gqa/golden.safetensors");
  GenerateOptions options{.max_new_tokens = 60, .sampling = {.temperature = 0}, .ignore_eos = true};
  const auto plain = generate(*model.model, model.tokenizer, golden.ids("ids_1"), options);
  ASSERT_TRUE(plain);
  Guesser wrong({1, 2, 3});
  const auto ngrams = ngram_drafter(), twin = model_drafter(*draft.model);
  for (Drafter* drafter : {static_cast<Drafter*>(&wrong), ngrams.get(), twin.get()}) {
    options.drafter = drafter;
    const auto guessed = generate(*model.model, model.tokenizer, golden.ids("ids_1"), options);
    ASSERT_TRUE(guessed) << guessed.error().message;
    EXPECT_EQ(guessed->ids, plain->ids);
    EXPECT_EQ(guessed->text, plain->text);
  }
  // A draft that is the model itself is always right: 12 tokens a pass but for the first few and the end.
  options.drafter = twin.get();
  EXPECT_LE(generate(*model.model, model.tokenizer, golden.ids("ids_1"), options)->passes, 10);
  EXPECT_EQ(plain->passes, 59);
}

TEST(Speculation, AChatGoesOnAfterIt) {
  const Tiny model = tiny();
  GenerateOptions options{.max_new_tokens = 8, .sampling = {.temperature = 0}, .ignore_eos = true};
  Chat plain(*model.model, model.tokenizer), guessing(*model.model, model.tokenizer);
  Guesser guesser({5, 9, 2, 7});
  std::vector<int32_t> prompt{5, 9, 2, 5, 9};
  for (int turn = 0; turn < 3; ++turn) {
    options.drafter = nullptr;
    const auto expected = plain.reply(prompt, options);
    options.drafter = &guesser;
    const auto got = guessing.reply(prompt, options);
    ASSERT_TRUE(expected && got);
    EXPECT_EQ(got->ids, expected->ids) << "turn " << turn;
    EXPECT_EQ(guessing.cached_tokens(), plain.cached_tokens());
    prompt.insert(prompt.end(), got->ids.begin(), got->ids.end());
    prompt.push_back(3);
  }
}

TEST(Speculation, SampledTokensKeepTheirDistribution) {
  // Pairs of tokens, each among the four likeliest, with guesses and without, from other seeds: Pearson's chi-squared of two samples.
  const Tiny model = tiny();
  constexpr int kDraws = 2000;
  at::set_num_threads(1);  // thousands of tiny passes: a second thread only costs
  std::map<std::pair<int32_t, int32_t>, std::array<double, 2>> counts;
  const auto first = generate(*model.model, model.tokenizer, {5, 9}, {.max_new_tokens = 2, .sampling = {.temperature = 0}, .ignore_eos = true});
  ASSERT_TRUE(first);
  Guesser guesser(first->ids);  // often right
  for (int side = 0; side < 2; ++side) {
    for (int i = 0; i < kDraws; ++i) {
      GenerateOptions options{.max_new_tokens = 2, .sampling = {.top_k = 4, .seed = static_cast<uint64_t>(side * kDraws + i)}, .ignore_eos = true};
      if (side == 1) options.drafter = &guesser;
      const auto out = generate(*model.model, model.tokenizer, {5, 9}, options);
      ASSERT_TRUE(out);
      counts[{out->ids[0], out->ids[1]}][static_cast<size_t>(side)] += 1;
    }
  }
  double chi = 0;
  for (const auto& [pair, n] : counts) chi += (n[0] - n[1]) * (n[0] - n[1]) / (n[0] + n[1]);
  EXPECT_GE(counts.size(), 9u);
  EXPECT_LE(counts.size(), 16u);
  EXPECT_LT(chi, 37.7) << "15 degrees of freedom at 0.1%";
}

TEST(Speculation, LengthFollowsSuccess) {
  DraftLength length;
  EXPECT_EQ(length.get(), 3);
  length.tell(3, 3);
  length.tell(7, 7);
  EXPECT_EQ(length.get(), DraftLength::kMost);
  length.tell(11, 2);
  EXPECT_EQ(length.get(), 3);
  for (int i = 0; i < 4; ++i) length.tell(1, 0);
  EXPECT_EQ(length.get(), 0) << "waits after misses";
  for (int i = 0; i < 16; ++i) length.tell(0, 0);
  EXPECT_GT(length.get(), 0) << "and tries again";
}

TEST(Perplexity, TheFusedPassGivesThatOfThePlainOne) {
  const Tiny model = tiny();
  auto text = models::open_model(kModels + "llama_gqa");
  ASSERT_TRUE(text);
  auto fused = load_fused(*text, {.threads = 2, .cache = false});
  ASSERT_TRUE(fused);
  // Many short ones, which share passes, an empty one, and one that fills the context.
  std::vector<std::vector<int32_t>> ids;
  for (int i = 0; i < 40; ++i) ids.emplace_back(static_cast<size_t>(i % 7 == 3 ? 0 : 5 + i * 3), (i * 37) % 250);
  ids.emplace_back(256, 9);
  for (auto& sequence : ids) {
    for (size_t t = 0; t < sequence.size(); ++t) sequence[t] = static_cast<int32_t>((sequence[t] + 31 * t * t) % 250);
  }
  std::vector<std::vector<uint8_t>> counted;
  std::vector<LanguageModel::Scored> scored;
  double tokens = 0;
  for (const auto& sequence : ids) {
    auto& marks = counted.emplace_back(sequence.size(), 0);
    for (size_t t = 1; t < marks.size(); ++t) tokens += marks[t] = t % 3 != 0;
  }
  for (size_t i = 0; i < ids.size(); ++i) scored.push_back({ids[i], counted[i]});
  const auto expected = model.model->loss(scored), got = (*fused)->loss(scored);
  ASSERT_TRUE(expected && got) << got.error().message;
  EXPECT_NEAR(*got / tokens, *expected / tokens, 0.002);  // the cache rounds to bf16
}

TEST(Perplexity, EqualsTransformersLossAndWindowsCountOnce) {
  const Tiny model = tiny();
  const models::Golden golden(kModels + "llama_gqa/golden.safetensors");
  const auto ids = golden.ids("ids_2");
  const auto whole = evaluate_text(*model.model, ids);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_NEAR(whole->mean_loss, golden.get("losses_2").mean().item<double>(), 1e-4);
  EXPECT_EQ(whole->tokens, static_cast<int64_t>(ids.size()) - 1);
  const auto windows = evaluate_text(*model.model, ids, {.window = 6, .stride = 2});
  ASSERT_TRUE(windows);
  EXPECT_EQ(windows->tokens, whole->tokens);
  ScoredSequence sequence{ids, std::vector<uint8_t>(ids.size(), 1)};
  const auto answers = evaluate_answers(*model.model, {sequence, sequence});
  ASSERT_TRUE(answers);
  EXPECT_NEAR(answers->mean_loss, whole->mean_loss, 1e-5);
  EXPECT_FALSE(evaluate_text(*model.model, {1}));
  EXPECT_FALSE(evaluate_text(*model.model, ids, {.window = 4, .stride = 5}));
  EXPECT_FALSE(evaluate_answers(*model.model, {}));
}

}  // namespace
}  // namespace deepseek::engine
