// The memory plan: counts that must be exact, refusals that must come before loading.
#include "train/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/decoder/load.h"

namespace deepseek::train {
namespace {

// DeepSeek LLM 7B's shape.
models::DecoderConfig seven_billion() {
  models::DecoderConfig c;
  c.vocab_size = 102400;
  c.hidden_size = 4096;
  c.intermediate_size = 11008;
  c.num_layers = 30;
  c.num_heads = c.num_kv_heads = 32;
  c.head_dim = 128;
  c.sliding.assign(30, false);
  return c;
}

TEST(MemoryPlan, CountsTheAdaptersParameters) {
  // Each layer: q, k, v, o 4096 x 4096; gate, up, down 4096 x 11008; rank 16.
  const int64_t expected = 30 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008));
  EXPECT_EQ(*adapter_parameters(seven_billion(), {}), expected);
  EXPECT_EQ(*adapter_parameters(seven_billion(), {.target_modules = {"q_proj"}}), 30 * 16 * 8192);
  for (const char* name : {"llama_gqa", "gemma3"}) {
    auto decoder = models::load_decoder(std::string(DEEPSEEK_SOURCE_DIR "/tests/golden/models/") + name);
    ASSERT_TRUE(decoder);
    const models::AdapterConfig config{.rank = 4, .use_dora = true};
    ASSERT_TRUE(models::attach_adapter(**decoder, config, 1));
    int64_t counted = 0;
    for (const auto& [key, tensor] : models::adapter_tensors(**decoder)) counted += tensor.numel();
    EXPECT_EQ(*adapter_parameters((*decoder)->config(), config), counted);
  }
}

TEST(MemoryPlan, RefusesWhatCannotFitWithAdvice) {
  const auto config = seven_billion();
  const int64_t trained = *adapter_parameters(config, {});
  const auto refusal = [&](int64_t element_size, uint64_t gib, const char* checkpointing) {
    auto plan = fitting_plan(config, trained, {.element_size = element_size}, checkpointing, gib << 30);
    return plan ? "fits" : plan.error().message;
  };
  EXPECT_THAT(refusal(4, 20, "auto"), ::testing::HasSubstr("use --dtype bf16"));
  EXPECT_THAT(refusal(2, 8, "auto"), ::testing::HasSubstr("the weights alone do not fit"));
  EXPECT_THAT(refusal(2, 17, "off"), ::testing::HasSubstr("--gradient_checkpointing on"));
  EXPECT_EQ(refusal(2, 20, "auto"), "fits");
  EXPECT_THAT(refusal(2, 20, "perhaps"), ::testing::HasSubstr("use auto, on or off"));
  EXPECT_TRUE(fitting_plan(config, trained, {}, "auto", uint64_t{20} << 30)->checkpoint);
  EXPECT_FALSE(fitting_plan(config, trained, {}, "auto", uint64_t{100} << 30)->checkpoint);
}

// Peak resident memory of deepseek-bench-step (Gemma 3 270M, rank 16, 13 rows of 321 tokens, Zen 4, 2 threads).
TEST(MemoryPlan, IsAboveWhatWasMeasuredButNotFar) {
  models::DecoderConfig gemma;
  gemma.vocab_size = 262144;
  gemma.hidden_size = 640;
  gemma.intermediate_size = 2048;
  gemma.num_layers = 18;
  gemma.num_heads = 4;
  gemma.num_kv_heads = 1;
  gemma.head_dim = 256;
  gemma.sliding.assign(18, true);
  gemma.tie_word_embeddings = true;
  struct Measured {
    int64_t element_size, tokens;
    bool checkpoint;
    uint64_t mib;
  };
  for (const auto& m : {Measured{2, 512, false, 1083}, {2, 512, true, 861}, {2, 2048, false, 2106}, {2, 2048, true, 992},
                        {2, 4096, false, 3199}, {2, 4096, true, 1165}, {4, 512, false, 2205}, {4, 512, true, 1897},
                        {4, 2048, false, 4542}, {4, 2048, true, 2669}, {4, 4096, false, 6292}, {4, 4096, true, 3180}}) {
    const MemoryPlan plan = plan_memory(
        gemma, 3'796'992, {.element_size = m.element_size, .micro_batch_tokens = m.tokens, .longest = 321, .checkpoint = m.checkpoint});
    const double ratio = static_cast<double>(plan.total() >> 20) / static_cast<double>(m.mib);
    EXPECT_GT(ratio, 1.05) << m.element_size << " bytes, " << m.tokens << " tokens, checkpointing " << m.checkpoint;
    EXPECT_LT(ratio, 1.6) << m.element_size << " bytes, " << m.tokens << " tokens, checkpointing " << m.checkpoint;
  }
}

}  // namespace
}  // namespace deepseek::train
