// Models in fewer bits: every family in every format, as a directory and as a GGUF; the search for types; divergence against libtorch.
#include "engine/compress.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "engine/compress_plan.h"

namespace deepseek::engine {
namespace {

using ::testing::HasSubstr;
namespace fs = base::fs;

const std::string kModels = DEEPSEEK_SOURCE_DIR "/tests/golden/models/";
const TokenSequences kTexts{{1, 5, 9, 17, 30, 22, 7, 40, 41, 3, 12, 60, 55, 2, 31, 8}, {4, 4, 8, 15, 16, 23, 42, 50, 11, 6}};

class Compressing : public ::testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("deepseek-compress-" + std::to_string(::getpid()));
  Compressing() { fs::create_directories(folder_); }
  ~Compressing() override { fs::remove_all(folder_); }

  base::Result<Compression> make(const std::string& model, CompressOptions options, const std::string& name) {
    auto text = models::open_model(model);
    EXPECT_TRUE(text) << (text ? "" : text.error().message);
    options.threads = 2;
    if (options.texts.empty()) options.texts = kTexts;
    if (options.held_out.empty()) options.held_out = kTexts;
    return compress(*text, folder_ / name, options);
  }
  static std::vector<float> logits(const fs::path& path) {
    auto text = models::open_model(path.string());
    EXPECT_TRUE(text) << (text ? "" : text.error().message);
    auto model = load_fused(*text, {.threads = 2, .cache = false});
    EXPECT_TRUE(model) << (model ? "" : model.error().message);
    auto sequence = (*model)->new_sequence();
    auto out = sequence->feed(kTexts[0], true);
    return {out->begin(), out->end()};
  }
};

class EveryFamily : public Compressing, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Compress, EveryFamily, ::testing::Values("llama_gqa", "llama_linear", "llama_mha", "qwen2", "qwen3", "gemma2", "gemma3"),
                         [](const auto& info) { return std::string(info.param); });

// Whether GGUF can say what this model is; where it cannot, it must say so.
TEST_P(EveryFamily, DirectoryAndGgufAreTheSameModel) {
  for (const char* format : {"bf16", "int8", "int4"}) {
    auto directory = make(kModels + GetParam(), {.format = format}, format);
    ASSERT_TRUE(directory) << directory.error().message;
    const double most = std::string(format) == "bf16" ? 2e-3 : std::string(format) == "int8" ? 1e-2 : 1.0;
    EXPECT_LT(directory->divergence.mean_kl, most) << format;
    auto gguf = make(kModels + GetParam(), {.format = format}, std::string(format) + ".gguf");
    if (!gguf) {
      EXPECT_THAT(gguf.error().message, HasSubstr("write a directory instead"));
      EXPECT_FALSE(fs::exists(folder_ / (std::string(format) + ".gguf")));
      continue;
    }
    const auto one = logits(folder_ / format), other = logits(folder_ / (std::string(format) + ".gguf"));
    ASSERT_EQ(one.size(), other.size());
    // GGUF holds norms as 1 + w, rounded once more, and epsilon and theta in f32.
    for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], other[i], 2e-2) << format << ", logit " << i;
  }
}

TEST_P(EveryFamily, TheTokenizerGoesIntoTheGguf) {
  auto made = make(kModels + GetParam(), {.format = "bf16"}, "model.gguf");
  if (!made) GTEST_SKIP() << made.error().message;
  auto before = models::open_model(kModels + GetParam()), after = models::open_model((folder_ / "model.gguf").string());
  ASSERT_TRUE(before && after);
  for (const char* text : {"hello world", "The rate is 12.5% of $1,000.", "  two  spaces\nand lines", "\u4F60\u597D \u00E9\u00DF"}) {
    EXPECT_EQ(before->tokenizer.encode(text), after->tokenizer.encode(text)) << text;
  }
  EXPECT_EQ(before->tokenizer.bos_id(), after->tokenizer.bos_id());
  EXPECT_EQ(before->tokenizer.eos_id(), after->tokenizer.eos_id());
}

TEST_F(Compressing, ACompressedModelCanBeCompressedAgain) {
  ASSERT_TRUE(make(kModels + "qwen3", {.format = "int8"}, "first"));
  auto again = make((folder_ / "first").string(), {.format = "q8_0"}, "second.gguf");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_LT(again->divergence.mean_kl, 1e-3) << "8 bits of what was in 8 bits";
  EXPECT_EQ(again->bytes_before, again->bytes_after);
}

TEST_F(Compressing, TheSameSeedGivesTheSameBytes) {
  auto text = models::open_model(kModels + "gemma3");
  for (const char* name : {"a.gguf", "b.gguf"}) {
    auto made = compress(*text, folder_ / name, {.format = "int4", .texts = {}, .held_out = {}, .seed = 3, .threads = 2});
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_GT(made->divergence.tokens, 500) << "texts of its own";
  }
  EXPECT_EQ(*base::read_file(folder_ / "a.gguf"), *base::read_file(folder_ / "b.gguf"));
}

TEST_F(Compressing, AutoStaysBelowItsLimitAndSpendsLessForMore) {
  uint64_t before = UINT64_MAX;
  for (const double limit : {1e-4, 3e-3, 10.0}) {
    auto made = make(kModels + "llama_mha", {.format = "auto", .max_kl = limit}, "auto" + std::to_string(limit));
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_LE(made->bytes_after, before);
    before = made->bytes_after;
  }
  const auto all = make(kModels + "llama_mha", {.format = "auto", .max_kl = 10.0}, "all");
  ASSERT_TRUE(all);
  for (const auto& matrix : all->matrices) {
    const bool filled = matrix.module.find("down_proj") == std::string::npos;  // 56 columns
    EXPECT_EQ(matrix.type, filled ? formats::DType::kQ4_0 : formats::DType::kBF16) << matrix.module;
  }
}

TEST_F(Compressing, BadRequestsAreRefused) {
  EXPECT_THAT(make(kModels + "qwen2", {.format = "int3"}, "x").error().message, HasSubstr("int3' is unknown; use int4, int8"));
  EXPECT_THAT(make(kModels + "qwen2", {.format = "auto", .max_kl = 0}, "x").error().message, HasSubstr("max_kl must be positive"));
  EXPECT_THAT(make(kModels + "qwen2", {.format = "int8"}, "no/such/place.gguf").error().message, HasSubstr("no/such"));
  CompressOptions stopped{.format = "int4"};
  stopped.stop_requested = [] { return true; };
  EXPECT_THAT(make(kModels + "qwen2", stopped, "y").error().message, HasSubstr("interrupted"));
  EXPECT_FALSE(fs::exists(folder_ / "y"));
}

TEST(Choosing, TakesTheStepsThatSaveMostForTheirBytes) {
  using formats::DType;
  const std::vector<std::vector<Candidate>> groups{{{DType::kQ4_0, 100, 0.5}, {DType::kQ8_0, 200, 0.01}},
                                                   {{DType::kQ4_0, 10, 0.2}, {DType::kQ5_0, 12, 0.05}, {DType::kQ8_0, 20, 0.01}}};
  EXPECT_EQ(choose_candidates(groups, 1.0), (std::vector<size_t>{0, 0}));
  EXPECT_EQ(choose_candidates(groups, 0.6), (std::vector<size_t>{0, 1})) << "the small group first";
  EXPECT_EQ(choose_candidates(groups, 0.1), (std::vector<size_t>{1, 1}));
  EXPECT_EQ(choose_candidates(groups, 1e-9), (std::vector<size_t>{1, 2})) << "the least there is";
}

TEST_F(Compressing, DivergenceEqualsItsFormula) {
  auto text = models::open_model(kModels + "llama_gqa"), other_text = models::open_model(kModels + "llama_gqa");
  ASSERT_TRUE(make(kModels + "llama_gqa", {.format = "int4"}, "int4"));
  other_text = models::open_model((folder_ / "int4").string());
  auto reference = load_fused(*text, {.threads = 2}), model = load_fused(*other_text, {.threads = 2});
  ASSERT_TRUE(reference && model);
  const TokenSequences sequences{kTexts[0]};
  const auto divergence = compare_models(**reference, **model, sequences);
  ASSERT_TRUE(divergence);
  auto p = logits(kModels + "llama_gqa"), q = logits(folder_ / "int4");
  const auto rows = static_cast<int64_t>(kTexts[0].size()), vocabulary = static_cast<int64_t>(p.size()) / rows;
  const auto log_of = [&](std::vector<float>& x) { return at::log_softmax(at::from_blob(x.data(), {rows, vocabulary}, at::kFloat).to(at::kDouble), -1).slice(0, 0, rows - 1); };
  const at::Tensor log_p = log_of(p), log_q = log_of(q);
  EXPECT_NEAR(divergence->mean_kl, (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>(), 1e-6);
  EXPECT_NEAR(divergence->agreement, log_p.argmax(-1).eq(log_q.argmax(-1)).to(at::kDouble).mean().item<double>(), 1e-9);
  EXPECT_EQ(divergence->tokens, rows - 1);
  const auto same = compare_models(**reference, **reference, sequences);
  EXPECT_LT(same->mean_kl, 1e-9);
  EXPECT_EQ(same->agreement, 1.0);
  EXPECT_THAT(compare_models(**reference, **model, TokenSequences{{5}}).error().message, HasSubstr("nothing to compare"));
}

}  // namespace
}  // namespace deepseek::engine
