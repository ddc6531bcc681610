// DeepSeek-V2, V3 and V3.2 against Transformers: logits at lengths around the indexer's top-k and the engine's pages, all at once, in pieces and
// token by token; greedy text; sizes of the published models; what is refused.
#include "models/deepseek/deepseek.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/argmax.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "models/decoder/checkpoint.h"
#include "models/decoder/golden.h"

namespace deepseek::models {
namespace {

const std::string kModels = DEEPSEEK_SOURCE_DIR "/tests/golden/models/";

std::unique_ptr<Deepseek> load(const std::string& name, const WeightOptions& options = {}) {
  auto model = load_deepseek(kModels + name, options);
  EXPECT_TRUE(model) << (model ? "" : model.error().message);
  return model ? std::move(*model) : nullptr;
}

class TinyDeepseek : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Versions, TinyDeepseek, ::testing::Values("deepseek_v2_lite", "deepseek_v2", "deepseek_v3", "deepseek_v32"));

TEST_P(TinyDeepseek, LogitsEqualTransformers) {
  const auto model = load(GetParam());
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + GetParam() + "/golden.safetensors");
  int count = 0;
  for (; golden.has("ids_" + std::to_string(count)); ++count) {
    const std::string n = std::to_string(count);
    const auto ids = golden.ids("ids_" + n);
    const at::Tensor expected = golden.get("logits_" + n);
    DeepseekCache cache;
    EXPECT_LT(relative_error(model->step_all(ids, cache), expected), 1e-4) << ids.size() << " tokens at once";
    // In pieces of 1, 2, 3, ... tokens.
    DeepseekCache pieces;
    for (size_t at = 0, size = 1; at < ids.size(); at += size++) {
      const auto end = std::min(ids.size(), at + size);
      const at::Tensor logits = model->step_all({ids.begin() + static_cast<long>(at), ids.begin() + static_cast<long>(end)}, pieces);
      EXPECT_LT(relative_error(logits, expected.narrow(0, static_cast<int64_t>(at), static_cast<int64_t>(end - at))), 1e-4) << ids.size() << " tokens, piece at " << at;
    }
  }
  EXPECT_EQ(count, 10);
}

TEST_P(TinyDeepseek, TokenByTokenAndBackEqualsAllAtOnce) {
  const auto model = load(GetParam());
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + GetParam() + "/golden.safetensors");
  const auto ids = golden.ids("ids_8");
  const at::Tensor expected = golden.get("logits_8");
  DeepseekCache cache;
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_LT(relative_error(model->step({ids[i]}, cache), expected[static_cast<int64_t>(i)]), 1e-4) << "position " << i;
  for (const int64_t back : {40, 17, 3}) {
    cache.truncate(back);
    EXPECT_LT(relative_error(model->step({ids[static_cast<size_t>(back)], ids[static_cast<size_t>(back + 1)]}, cache), expected[back + 1]), 1e-4) << back;
  }
}

TEST_P(TinyDeepseek, GreedyTextEqualsTransformers) {
  const auto model = load(GetParam());
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + GetParam() + "/golden.safetensors");
  DeepseekCache cache;
  at::Tensor logits = model->step(golden.ids("ids_1"), cache);
  for (const int32_t token : golden.ids("greedy")) {
    ASSERT_EQ(at::argmax(logits).item<int64_t>(), token) << "position " << cache.length();
    logits = model->step({token}, cache);
  }
}

TEST_P(TinyDeepseek, PackedSequencesDoNotSeeEachOther) {
  const auto model = load(GetParam());
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + GetParam() + "/golden.safetensors");
  const at::Tensor hidden = model->hidden(pack_sequences({golden.ids("ids_1"), golden.ids("ids_4")}));
  const at::Tensor logits = at::matmul(hidden, model->head().t());
  EXPECT_LT(relative_error(logits.narrow(0, 0, 7), golden.get("logits_1")), 1e-4);
  EXPECT_LT(relative_error(logits.narrow(0, 7, 17), golden.get("logits_4")), 1e-4);
}

TEST_P(TinyDeepseek, Bf16StaysNear) {
  const auto model = load(GetParam(), {.dtype = at::kBFloat16});
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + GetParam() + "/golden.safetensors");
  DeepseekCache cache;
  // Short enough that no choice of keys can tip; a choice of experts still can, so half the rows must be near.
  const at::Tensor logits = model->step_all(golden.ids("ids_2"), cache), expected = golden.get("logits_2");
  const at::Tensor error = (logits - expected).abs().amax(1) / expected.abs().max();
  EXPECT_LT(error.median().item<float>(), 0.1f);  // some 30 roundings of 2^-9 on the way, which random layers grow
}

TEST(Deepseek, AttentionByNameChangesWhatIsRead) {
  const auto model = load("deepseek_v32");
  ASSERT_NE(model, nullptr);
  const Golden golden(kModels + std::string("deepseek_v32/golden.safetensors"));
  const auto ids = golden.ids("ids_9");
  const auto logits = [&](const std::string& attention) {
    auto fresh = load("deepseek_v32");
    auto set = fresh->set_attention(attention);
    EXPECT_TRUE(set) << (set ? "" : set.error().message);
    DeepseekCache cache;
    const at::Tensor out = fresh->step_all(ids, cache);
    return std::pair(out, fresh->share_of_keys_read());
  };
  const auto own = logits("auto"), dense = logits("dense"), all = logits("dsa:top_k=130"), half = logits("dsa:top_k=64"), mass = logits("dsa:top_p=0.9");
  EXPECT_LT(relative_error(own.first, golden.get("logits_9")), 1e-4);
  EXPECT_LT(relative_error(all.first, dense.first), 1e-4);
  EXPECT_GT(relative_error(own.first, dense.first), 1e-3);
  EXPECT_EQ(dense.second, 1.0);
  EXPECT_NEAR(own.second, (16.0 * 17 / 2 + 16 * 114) / (130.0 * 131 / 2), 1e-9);
  EXPECT_LT(own.second, half.second);
  EXPECT_LE(mass.second, own.second);
  for (const char* wrong : {"dsa:ratio=0.4", "dsa:top_k=0", "dsa:top_p=1.5", "dsa:top_k=2.5", "sparse", ""}) EXPECT_FALSE(model->set_attention(wrong)) << wrong;
  const auto v3 = load("deepseek_v3");
  EXPECT_TRUE(v3->set_attention("dense"));
  EXPECT_NE(v3->set_attention("dsa").error().message.find("no indexer"), std::string::npos);
}

TEST(Deepseek, TokensOutsideTheVocabularyThrow) {
  const auto model = load("deepseek_v3");
  DeepseekCache cache;
  EXPECT_THROW(model->step({260}, cache), c10::Error);
  EXPECT_THROW(model->step({}, cache), c10::Error);
  EXPECT_EQ(cache.length(), 0);
}

nlohmann::ordered_json config_of(const std::string& name) { return *base::parse_json(*base::read_file(kModels + name + "/config.json")); }

TEST(DeepseekConfig, PublishedLayoutMeansTheSame) {
  // As config.json of DeepSeek-V3 has it: rope_theta, rope_scaling with "type", first_k_dense_replace alone.
  auto json = config_of("deepseek_v3");
  const auto rope = json["rope_parameters"];
  json.erase("rope_parameters");
  json.erase("mlp_layer_types");
  json["rope_theta"] = rope["rope_theta"];
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", rope["factor"]}, {"original_max_position_embeddings", rope["original_max_position_embeddings"]},
                          {"beta_fast", 32}, {"beta_slow", 1}, {"mscale", rope["mscale"]}, {"mscale_all_dim", rope["mscale_all_dim"]}};
  json["topk_method"] = "noaux_tc";
  json["scoring_func"] = "sigmoid";
  json["num_nextn_predict_layers"] = 1;
  const auto classic = deepseek_config_from_json(json), modern = deepseek_config_from_json(config_of("deepseek_v3"));
  ASSERT_TRUE(classic) << classic.error().message;
  ASSERT_TRUE(modern) << modern.error().message;
  EXPECT_EQ(rope_frequencies(classic->common.rope, 8), rope_frequencies(modern->common.rope, 8));
  EXPECT_EQ(classic->common.rope.attention_factor, modern->common.rope.attention_factor);
  EXPECT_EQ(classic->attention_scale, modern->attention_scale);
  EXPECT_EQ(classic->experts_in, modern->experts_in);
}

TEST(DeepseekConfig, PublishedModelsHaveTheirSizes) {
  const auto billions = [](const nlohmann::ordered_json& json) {
    const auto config = deepseek_config_from_json(json);
    EXPECT_TRUE(config) << (config ? "" : config.error().message);
    return config ? static_cast<double>(config->parameters()) / 1e9 : 0;
  };
  nlohmann::ordered_json v3{{"model_type", "deepseek_v3"}, {"vocab_size", 129280}, {"hidden_size", 7168}, {"intermediate_size", 18432}, {"moe_intermediate_size", 2048},
                            {"num_hidden_layers", 61}, {"num_attention_heads", 128}, {"n_shared_experts", 1}, {"n_routed_experts", 256}, {"num_experts_per_tok", 8},
                            {"kv_lora_rank", 512}, {"q_lora_rank", 1536}, {"n_group", 8}, {"topk_group", 4}, {"first_k_dense_replace", 3}};
  EXPECT_NEAR(billions(v3), 671.0, 0.1);  // DeepSeek-V3's paper: 671B
  const nlohmann::ordered_json v2_lite{{"model_type", "deepseek_v2"}, {"vocab_size", 102400}, {"hidden_size", 2048}, {"intermediate_size", 10944}, {"moe_intermediate_size", 1408},
                                       {"num_hidden_layers", 27}, {"num_attention_heads", 16}, {"n_shared_experts", 2}, {"n_routed_experts", 64}, {"num_experts_per_tok", 6},
                                       {"kv_lora_rank", 512}, {"q_lora_rank", nullptr}, {"first_k_dense_replace", 1}};
  EXPECT_NEAR(billions(v2_lite), 15.7, 0.05);  // DeepSeek-V2's paper, appendix B: 15.7B
}

TEST(DeepseekConfig, RefusesWhatWouldSilentlyBeComputedOtherwise) {
  const auto refusal = [](const std::string& model, const std::string& key, const nlohmann::ordered_json& value) {
    auto json = config_of(model);
    json[key] = value;
    const auto config = deepseek_config_from_json(json);
    return config ? std::string("accepted") : config.error().message;
  };
  EXPECT_EQ(refusal("deepseek_v3", "hidden_act", "silu"), "accepted");
  EXPECT_EQ(refusal("deepseek_v3", "hidden_act", "gelu"), "hidden_act 'gelu' is not supported; a model of this kind has silu");
  EXPECT_NE(refusal("deepseek_v3", "quantization_config", {{"quant_method", "fp8"}}).find("quantised by 'fp8'"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "rope_parameters", {{"rope_type", "llama3"}}).find("supported are yarn"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "n_group", 3).find("no multiple of n_group 3"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "topk_group", 9).find("topk_group 9 of 4"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "num_experts_per_tok", 9).find("9 of 8 experts"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "kv_lora_rank", 0).find("kv_lora_rank is 0"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "hidden_size", "big").find("no whole number"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "num_hidden_layers", int64_t{1} << 40).find("num_hidden_layers is"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v3", "attention_bias", true).find("attention_bias"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v2", "norm_topk_prob", true).find("norm_topk_prob"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v2", "moe_layer_freq", 2).find("moe_layer_freq 2"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v2", "scoring_func", "sigmoid").find("scoring_func"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v32", "q_lora_rank", nullptr).find("q_lora_rank"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v32", "index_head_dim", 4).find("index_head_dim 4"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v32", "index_topk", 0).find("index_topk is 0"), std::string::npos);
  EXPECT_NE(refusal("deepseek_v32", "mlp_layer_types", {"dense"}).find("each of the 3 layers"), std::string::npos);
  EXPECT_NE(read_decoder_config(kModels + "deepseek_v3").error().message.find("generate, chat and eval"), std::string::npos);
}

TEST(Deepseek, FilesThatDoNotFitAreNamed) {
  EXPECT_FALSE(load_deepseek("/nonexistent"));
  EXPECT_NE(load_deepseek(kModels + "llama_gqa").error().message.find("'llama' is none of"), std::string::npos);
  // A model whose configuration asks for a fourth layer of experts that the file has, and a fifth that it has not.
  const base::fs::path copy = base::fs::path(::testing::TempDir()) / "deepseek-more-layers";
  base::fs::remove_all(copy);
  base::fs::copy(kModels + std::string("deepseek_v3"), copy, base::fs::copy_options::recursive);
  auto json = config_of("deepseek_v3");
  json["num_hidden_layers"] = 5;
  json.erase("mlp_layer_types");
  ASSERT_TRUE(base::write_file_atomically(copy / "config.json", json.dump()));
  EXPECT_NE(load_deepseek(copy).error().message.find("tensor 'model.layers.4.input_layernorm.weight' is missing"), std::string::npos);
  json = config_of("deepseek_v3");
  json["v_head_dim"] = 11;
  ASSERT_TRUE(base::write_file_atomically(copy / "config.json", json.dump()));
  EXPECT_NE(load_deepseek(copy).error().message.find("kv_b_proj.weight"), std::string::npos);
  base::fs::remove_all(copy);
}

}  // namespace
}  // namespace deepseek::models
