// The decoder against Transformers: logits, losses and greedy text on tiny models of every family and on the real Gemma 3 270M.
#include "models/decoder/decoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/logsumexp.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "models/decoder/checkpoint.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

namespace deepseek::models {
namespace {

const std::string kModels = DEEPSEEK_SOURCE_DIR "/tests/golden/models/";

std::unique_ptr<Decoder> load(const std::string& path) {
  auto decoder = load_decoder(path);
  EXPECT_TRUE(decoder) << (decoder ? "" : decoder.error().message);
  return decoder ? std::move(*decoder) : nullptr;
}

// Greedy text; at each step the golden token, so that a tie within rounding cannot derail the rest.
void expect_greedy(const Decoder& decoder, const std::vector<int32_t>& prompt, const Golden& golden, const std::string& greedy, const std::string& margin) {
  KvCache cache;
  at::Tensor logits = decoder.step(prompt, cache);
  const auto expected = golden.ids(greedy);
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto token = at::argmax(logits).item<int64_t>();
    if (token != expected[i]) {
      ASSERT_TRUE(golden.has(margin)) << "token " << i << " is " << token << ", Transformers has " << expected[i];
      ASSERT_LT(golden.get(margin)[static_cast<int64_t>(i)].item<float>(), 1e-4f) << "token " << i;
    }
    logits = decoder.step({expected[i]}, cache);
  }
}

class TinyModel : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyModel, LogitsAndGreedyTextEqualTransformers) {
  const std::string path = kModels + GetParam();
  const auto decoder = load(path);
  ASSERT_NE(decoder, nullptr);
  const Golden golden(path + "/golden.safetensors");
  at::NoGradGuard no_grad;
  std::vector<std::vector<int32_t>> sequences;
  for (int i = 0; golden.has("ids_" + std::to_string(i)); ++i) {
    const std::string n = std::to_string(i);
    sequences.push_back(golden.ids("ids_" + n));
    KvCache cache;
    EXPECT_LT(relative_error(decoder->step_all(sequences.back(), cache), golden.get("logits_" + n)), 1e-4) << "sequence " << i;
    if (golden.has("greedy_" + n)) expect_greedy(*decoder, sequences.back(), golden, "greedy_" + n, "greedy_margin_" + n);
  }
  ASSERT_GE(sequences.size(), 3u);
  if (golden.has("greedy")) expect_greedy(*decoder, sequences[1], golden, "greedy", "greedy_margin");
  // Packed end to end, no sequence sees another.
  const PackedSequences packed = pack_sequences(sequences);
  const at::Tensor logits = decoder->logits(decoder->hidden(packed));
  for (size_t i = 0; i < sequences.size(); ++i) {
    const at::Tensor part = logits.narrow(0, packed.offsets[i], packed.offsets[i + 1] - packed.offsets[i]);
    EXPECT_LT(relative_error(part, golden.get("logits_" + std::to_string(i))), 1e-4) << "packed sequence " << i;
  }
}

TEST_P(TinyModel, TokenByTokenEqualsAllAtOnce) {
  const std::string path = kModels + GetParam();
  const auto decoder = load(path);
  ASSERT_NE(decoder, nullptr);
  const Golden golden(path + "/golden.safetensors");
  const auto ids = golden.ids("ids_2");
  const at::Tensor expected = golden.get("logits_2");
  KvCache cache;
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_LT(relative_error(decoder->step({ids[i]}, cache), expected[static_cast<int64_t>(i)]), 1e-4) << "position " << i;
  }
  cache.truncate(3);
  EXPECT_LT(relative_error(decoder->step({ids[3], ids[4]}, cache), expected[4]), 1e-4);
}

TEST_P(TinyModel, BothLayoutsOfTheConfigurationMeanTheSame) {
  const std::string path = kModels + GetParam();
  const auto first = read_decoder_config(path);
  ASSERT_TRUE(first) << first.error().message;
  for (const char* other : {"/config.classic.json", "/config.parameters.json"}) {
    auto text = base::read_file(path + other);
    if (!text) continue;
    const auto second = decoder_config_from_json(*base::parse_json(*text));
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(decoder_config_to_json(*first, "float32"), decoder_config_to_json(*second, "float32")) << other;
  }
  const auto back = decoder_config_from_json(decoder_config_to_json(*first, "float32"));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(decoder_config_to_json(*back, "float32"), decoder_config_to_json(*first, "float32"));
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModel,
                         ::testing::Values("llama_mha", "llama_gqa", "llama_linear", "qwen2", "qwen3", "gemma2", "gemma3"));

// $DEEPSEEK_GEMMA, else where `pull` puts it.
base::fs::path gemma() {
  if (const char* path = std::getenv("DEEPSEEK_GEMMA")) return path;
  return base::cache_directory() / "models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf";
}

TEST(Config, RefusesWhatItCannotRun) {
  const auto message = [](const std::string& text) {
    auto config = decoder_config_from_json(*base::parse_json(text));
    return config ? std::string("accepted") : config.error().message;
  };
  EXPECT_EQ(message(R"({"model_type":"mamba"})"), "model type 'mamba' is not supported; supported are llama, qwen2, qwen3, gemma2, gemma3, deepseek_v2, deepseek_v3, deepseek_v32");
  EXPECT_NE(message(R"({"model_type":"llama","vocab_size":-5})").find("vocab_size is -5"), std::string::npos);
  EXPECT_NE(message(R"({"model_type":"llama","vocab_size":9,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":3,"num_key_value_heads":2})")
                .find("no multiple"), std::string::npos);
  EXPECT_NE(message(R"({"model_type":"llama","vocab_size":9,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"rope_scaling":{"type":"yarn"}})")
                .find("'yarn'"), std::string::npos);
  EXPECT_EQ(message("[]"), "config.json is no JSON object");
}

// A sound configuration with one field changed.
std::string refusal(const std::string& model, const std::string& key, const nlohmann::ordered_json& value) {
  auto json = *base::parse_json(*base::read_file(kModels + model + "/config.json"));
  json[key] = value;
  auto config = decoder_config_from_json(json);
  return config ? "accepted" : config.error().message;
}

TEST(Config, RefusesWhatWouldSilentlyBeComputedOtherwise) {
  EXPECT_EQ(refusal("llama_gqa", "hidden_act", "silu"), "accepted");
  EXPECT_EQ(refusal("llama_gqa", "sliding_window", nullptr), "accepted");
  EXPECT_EQ(refusal("llama_gqa", "vocab_size", "many"), "vocab_size is \"many\", which is no whole number");
  EXPECT_EQ(refusal("llama_gqa", "vocab_size", 1e30), "vocab_size is 1e+30, which is no whole number");
  EXPECT_EQ(refusal("llama_gqa", "vocab_size", 1'000'000'000'000'000'000), "vocab_size is 1000000000000000000, more than any model has");
  EXPECT_EQ(refusal("llama_gqa", "rms_norm_eps", "1e-6"), "rms_norm_eps is \"1e-6\", which is no number");
  EXPECT_EQ(refusal("llama_gqa", "hidden_act", "relu"), "hidden_act 'relu' is not supported; a model of this kind has silu");
  EXPECT_NE(refusal("llama_gqa", "quantization_config", {{"quant_method", "gptq"}}).find("quantised by 'gptq'"), std::string::npos);
  EXPECT_NE(refusal("llama_gqa", "rope_parameters", {{"rope_type", "llama3"}, {"low_freq_factor", 2}, {"high_freq_factor", 2}}).find("llama3 needs"),
            std::string::npos);
  EXPECT_EQ(refusal("gemma3", "query_pre_attn_scalar", 0), "query_pre_attn_scalar must be positive");
  EXPECT_EQ(refusal("gemma3", "final_logit_softcapping", -3), "a soft cap of the logits must be positive");
  EXPECT_EQ(refusal("gemma3", "sliding_window", -3), "sliding_window is -3; it must be positive");
  EXPECT_NE(refusal("gemma3", "layer_types", {"full_attention"}).find("for each of the"), std::string::npos);
}

TEST(Config, IsWrittenWithTheTypesThatTransformersChecks) {
  for (const char* model : {"gemma2", "gemma3"}) {
    const auto config = read_decoder_config(kModels + model);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_TRUE(decoder_config_to_json(*config, "float32")["query_pre_attn_scalar"].is_number_integer()) << model;
  }
}

TEST(Weights, KnowTheTypeInWhichTheyLoseNothing) {
  EXPECT_EQ(*stored_dtype(kModels + "llama_gqa"), at::kFloat);
  if (base::fs::exists(gemma())) {
    EXPECT_EQ(*stored_dtype(gemma()), at::kBFloat16);
  }
  EXPECT_FALSE(stored_dtype("/nonexistent"));
}

TEST(Gemma3_270M, LogitsEqualTransformers) {
  if (!base::fs::exists(gemma())) GTEST_SKIP() << "not on this machine: deepseek-cli pull gemma-3-270m";
  const auto decoder = load(gemma());
  ASSERT_NE(decoder, nullptr);
  EXPECT_EQ(decoder->config().parameters(), 268098176);
  const Golden golden(DEEPSEEK_SOURCE_DIR "/tests/golden/gemma.safetensors");
  const at::Tensor sample = golden.get("sample_ids");
  at::NoGradGuard no_grad;
  for (const std::string n : {"0", "1", "2", "3"}) {
    const auto ids = golden.ids("ids_" + n);
    const at::Tensor hidden = decoder->hidden(pack_sequences({ids}));
    const at::Tensor logits = decoder->logits(at::index_select(hidden, 0, golden.get("positions_" + n)));
    EXPECT_LT(relative_error(at::index_select(logits, 1, sample), golden.get("logits_" + n)), 1e-4) << "prompt " << n;
    EXPECT_LT(relative_error(logits.gather(1, golden.get("top_ids_" + n)), golden.get("top_logits_" + n)), 1e-4) << "prompt " << n;
    EXPECT_LT(relative_error(at::logsumexp(logits, at::IntArrayRef{1}), golden.get("logsumexp_" + n)), 1e-4) << "prompt " << n;
    if (golden.has("greedy_" + n)) expect_greedy(*decoder, ids, golden, "greedy_" + n, "greedy_margin_" + n);
  }
}

}  // namespace
}  // namespace deepseek::models
