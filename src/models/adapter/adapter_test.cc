// Adapters against PEFT: what PEFT wrote gives PEFT's logits here, also merged; what is refused says why.
#include "models/adapter/adapter.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "models/adapter/adapter_file.h"
#include "models/adapter/matching.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

namespace deepseek::models {
namespace {

namespace fs = base::fs;
const fs::path kGolden = DEEPSEEK_SOURCE_DIR "/tests/golden";

std::unique_ptr<Decoder> base_of(const std::string& adapter) {
  auto decoder = load_decoder(kGolden / "models" / adapter.substr(0, adapter.find('-')));
  EXPECT_TRUE(decoder) << (decoder ? "" : decoder.error().message);
  return std::move(*decoder);
}

class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / ("deepseek-adapter-" + std::to_string(::getpid()))) { fs::create_directories(path_); }
  ~Scratch() { fs::remove_all(path_); }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

at::Tensor logits_of(const Decoder& decoder, const std::vector<int32_t>& ids) {
  at::NoGradGuard no_grad;
  return decoder.logits(decoder.hidden(pack_sequences({ids})));
}

class PeftAdapter : public ::testing::TestWithParam<const char*> {};

TEST_P(PeftAdapter, GivesPeftsLogitsAlsoMerged) {
  const auto directory = kGolden / "adapters" / GetParam();
  const auto decoder = base_of(GetParam());
  auto config = read_adapter(*decoder, directory);
  ASSERT_TRUE(config) << config.error().message;
  const Golden golden((directory / "golden.safetensors").string());
  const at::Tensor logits = logits_of(*decoder, golden.ids("ids"));
  EXPECT_LT(relative_error(logits, golden.get("logits")), 1e-4);
  merge_adapter(*decoder);
  for (const auto* layer : linear_layers(static_cast<const Decoder&>(*decoder))) EXPECT_FALSE(layer->lora);
  const at::Tensor merged = logits_of(*decoder, golden.ids("ids"));
  EXPECT_LT(relative_error(merged, golden.get("merged_logits")), 1e-4);
  EXPECT_LT(relative_error(merged, logits), 1e-4);
}

TEST_P(PeftAdapter, ItsFileMergesRowByRowToTheSame) {
  const auto decoder = base_of(GetParam()), merged = base_of(GetParam());
  const auto directory = kGolden / "adapters" / GetParam();
  auto file = read_adapter_file(directory, linear_modules(decoder->config()));
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(read_adapter(*merged, directory));
  merge_adapter(*merged);
  const auto before = linear_layers(*decoder), after = linear_layers(*merged);
  for (size_t i = 0; i < before.size(); ++i) {
    at::Tensor weight = before[i]->weight.clone();
    if (const auto part = file->parts.find(before[i]->name); part != file->parts.end()) {
      for (int64_t r = 0; r < weight.size(0); ++r) {
        part->second.merge_row(r, {weight.mutable_data_ptr<float>() + r * weight.size(1), static_cast<size_t>(weight.size(1))});
      }
    }
    EXPECT_LT(relative_error(weight, after[i]->weight), 1e-6) << before[i]->name;
  }
}

TEST_P(PeftAdapter, IsWrittenAsItWasRead) {
  const auto decoder = base_of(GetParam()), second = base_of(GetParam());
  auto config = read_adapter(*decoder, kGolden / "adapters" / GetParam());
  ASSERT_TRUE(config) << config.error().message;
  const Scratch scratch;
  const auto written = write_adapter(*decoder, *config, scratch.path());
  ASSERT_TRUE(written) << written.error().message;
  auto again = read_adapter(*second, scratch.path());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(adapter_config_to_json(*again), adapter_config_to_json(*config));
  const auto first = adapter_tensors(*decoder), other = adapter_tensors(*second);
  ASSERT_EQ(first.size(), other.size());
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].first, other[i].first);
    EXPECT_TRUE(at::equal(first[i].second, other[i].second)) << first[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, PeftAdapter,
                         ::testing::Values("llama_gqa-lora", "llama_gqa-rslora", "llama_gqa-dora", "llama_gqa-patterns", "llama_gqa-layers",
                                           "qwen3-lora", "qwen3-dora", "qwen3-rslora", "gemma3-lora", "gemma3-rslora", "gemma3-dora",
                                           "gemma3-patterns", "gemma3-layers"));

TEST(Adapter, UntrainedLeavesTheModelAsItWas) {
  const auto plain = base_of("qwen3"), adapted = base_of("qwen3");
  const std::vector<int32_t> ids{1, 5, 9, 20, 33};
  for (const bool dora : {false, true}) {
    ASSERT_TRUE(attach_adapter(*adapted, {.rank = 4, .use_dora = dora}, 7));
    EXPECT_LT(relative_error(logits_of(*adapted, ids), logits_of(*plain, ids)), 1e-6);
  }
}

TEST(Adapter, InitialValuesDependOnSeedAndNameAlone) {
  const auto one = base_of("qwen3"), two = base_of("qwen3"), other = base_of("qwen3");
  ASSERT_TRUE(attach_adapter(*one, {.rank = 4}, 7));
  ASSERT_TRUE(attach_adapter(*two, {.rank = 4, .target_modules = {"q_proj"}}, 7));
  ASSERT_TRUE(attach_adapter(*other, {.rank = 4}, 8));
  const auto& a = one->layers()[0].q.lora->a;
  EXPECT_TRUE(at::equal(a, two->layers()[0].q.lora->a));
  EXPECT_FALSE(at::equal(a, other->layers()[0].q.lora->a));
  EXPECT_FALSE(at::equal(a, one->layers()[1].q.lora->a));
  EXPECT_FALSE(two->layers()[0].k.lora);
  const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
  EXPECT_LE(a.abs().max().item<double>(), bound);
  EXPECT_GT(a.abs().max().item<double>(), 0.9 * bound);
}

std::string refusal(const AdapterConfig& config) {
  const auto decoder = base_of("llama_gqa");
  const auto status = attach_adapter(*decoder, config, 1);
  return status ? "accepted" : status.error().message;
}

TEST(Adapter, RefusesAbsurdSettingsInOneSentence) {
  EXPECT_EQ(refusal({.rank = 0}), "a LoRA rank of 0 makes no adapter; use 1 or more (16 is common)");
  EXPECT_THAT(refusal({.rank = 4096}), ::testing::HasSubstr("is above the size of model.layers.0.self_attn."));
  EXPECT_THAT(refusal({.alpha = -1}), ::testing::HasSubstr("alpha of -1"));
  EXPECT_THAT(refusal({.dropout = 1.5}), ::testing::HasSubstr("dropout of 1.5"));
  EXPECT_THAT(refusal({.target_modules = {"q_prj"}}), ::testing::HasSubstr("did you mean 'q_proj'?"));
  EXPECT_THAT(refusal({.target_modules = {"lm_head"}}), ::testing::HasSubstr("stay frozen"));
  EXPECT_THAT(refusal({.target_pattern = "(("}), ::testing::HasSubstr("is wrong at character"));
  EXPECT_THAT(refusal({.exclude_pattern = ".*"}), ::testing::HasSubstr("leave no module"));
  EXPECT_THAT(refusal({.layers_to_transform = {99}}), ::testing::HasSubstr("leave no module"));
}

TEST(Adapter, TargetsByPatternExclusionAndLayer) {
  const std::vector<std::string> names{"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"};
  const auto targeted = [&](const AdapterConfig& config) {
    std::vector<LinearModule> modules;
    for (const auto& name : names) modules.push_back({name, 64, 64});
    auto matcher = ModuleMatcher::create(config, modules);
    EXPECT_TRUE(matcher) << (matcher ? "" : matcher.error().message);
    std::string marks;
    for (const auto& name : names) marks += matcher->targets(name) ? 'x' : '-';
    return marks;
  };
  EXPECT_EQ(targeted({}), "xxx");
  EXPECT_EQ(targeted({.target_modules = {"q_proj"}}), "xx-");
  EXPECT_EQ(targeted({.target_pattern = ".*layers\\.1.*"}), "-xx");
  EXPECT_EQ(targeted({.exclude_modules = {"up_proj"}}), "xx-");
  EXPECT_EQ(targeted({.layers_to_transform = {1}}), "-xx");
  EXPECT_EQ(targeted({.layers_to_transform = {1}, .layers_pattern = {"layers"}}), "-xx");
}

// A copy of a sound adapter with something broken in it.
std::string read_broken(const std::function<void(const fs::path&)>& break_it) {
  const Scratch scratch;
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
    fs::copy_file(kGolden / "adapters/llama_gqa-lora" / file, scratch.path() / file);
  }
  break_it(scratch.path());
  const auto decoder = base_of("llama_gqa");
  auto config = read_adapter(*decoder, scratch.path());
  for (const auto* layer : linear_layers(static_cast<const Decoder&>(*decoder))) EXPECT_EQ(layer->lora.has_value(), config.has_value());
  return config ? "accepted" : config.error().message;
}

std::string with_setting(const std::string& key, const nlohmann::ordered_json& value) {
  return read_broken([&](const fs::path& directory) {
    auto json = *base::parse_json(*base::read_file(directory / "adapter_config.json"));
    json[key] = value;
    std::ofstream(directory / "adapter_config.json") << json;
  });
}

TEST(Adapter, BrokenFilesAreRefusedAndLeaveTheModelAsItWas) {
  using ::testing::HasSubstr;
  EXPECT_THAT(read_broken([](const fs::path& d) { fs::remove(d / "adapter_model.safetensors"); }), HasSubstr("it has no adapter_model.safetensors"));
  EXPECT_THAT(read_broken([](const fs::path& d) { fs::remove(d / "adapter_config.json"); }), HasSubstr("it has no adapter_config.json"));
  EXPECT_THAT(read_broken([](const fs::path& d) { fs::resize_file(d / "adapter_model.safetensors", 1000); }), HasSubstr("adapter_model.safetensors"));
  EXPECT_THAT(read_broken([](const fs::path& d) { std::ofstream(d / "adapter_config.json") << "{"; }), HasSubstr("adapter_config.json"));
  EXPECT_THAT(with_setting("r", 5), HasSubstr("has shape [4, "));
  EXPECT_THAT(with_setting("r", "many"), HasSubstr("adapter_config.json: "));
  EXPECT_THAT(with_setting("peft_type", "IA3"), HasSubstr("type 'IA3' are not supported"));
  EXPECT_THAT(with_setting("use_dora", true), HasSubstr("lora_magnitude_vector' is missing"));
  EXPECT_THAT(with_setting("target_modules", {"q_proj"}), HasSubstr("belongs to no module"));
  EXPECT_THAT(with_setting("modules_to_save", {"lm_head"}), HasSubstr("'modules_to_save' is not supported"));
  EXPECT_THAT(with_setting("bias", "all"), HasSubstr("trained biases ('bias': 'all') are not supported"));
  EXPECT_THAT(with_setting("init_lora_weights", "pissa_niter_16"), HasSubstr("began as 'pissa_niter_16'"));
  EXPECT_THAT(with_setting("init_lora_weights", "gaussian"), "accepted");
}

}  // namespace
}  // namespace deepseek::models
