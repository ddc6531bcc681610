// Encoders against Transformers and sentence-transformers: tiny ones of every kind, the real all-MiniLM-L6-v2, and broken ones.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "formats/weights/convert.h"
#include "models/bert/encoder.h"
#include "models/decoder/checkpoint.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"
#include "models/hub/packages.h"

namespace deepseek::models {
namespace {

using ::testing::HasSubstr;
namespace fs = base::fs;
using Json = nlohmann::ordered_json;
const fs::path kGoldenRoot = DEEPSEEK_SOURCE_DIR "/tests/golden";

std::vector<std::string> texts_of(const fs::path& file) {
  return (*base::parse_json(*base::read_file(file)))["texts"].get<std::vector<std::string>>();
}

std::unique_ptr<Encoder> load(const fs::path& directory, const WeightOptions& options = {}) {
  auto encoder = load_encoder(directory, options);
  EXPECT_TRUE(encoder) << (encoder ? "" : encoder.error().message);
  return encoder ? std::move(*encoder) : nullptr;
}

at::Tensor embed(const Encoder& encoder, const std::vector<std::string>& texts) {
  auto vectors = encoder.embed(texts);
  EXPECT_TRUE(vectors) << (vectors ? "" : vectors.error().message);
  return vectors ? *vectors : at::Tensor();
}

double difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

// Embeddings, ids and hidden states as stored; each text alone gives what it gives among the others.
void expect_golden(const Encoder& encoder, const std::vector<std::string>& texts, const Golden& golden, double most) {
  const at::Tensor expected = golden.get("embeddings"), all = embed(encoder, texts);
  ASSERT_EQ(all.sizes(), expected.sizes());
  EXPECT_LT(difference(all, expected), most);
  const auto states = encoder.embed_tokens(texts);
  ASSERT_TRUE(states) << states.error().message;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string n = std::to_string(i);
    EXPECT_LT(difference(embed(encoder, {texts[i]})[0], all[static_cast<int64_t>(i)]), 1e-5) << "text " << i << " alone";
    if (!golden.has("ids_" + n)) continue;
    EXPECT_EQ(encoder.tokens(texts[i]), golden.ids("ids_" + n)) << "text " << i;
    EXPECT_LT(relative_error((*states)[i], golden.get("hidden_" + n)), most) << "text " << i;
  }
}

class TinyEncoder : public ::testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] static fs::path path() { return kGoldenRoot / "encoders" / GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, TinyEncoder, ::testing::Values("bert", "bert_head", "roberta"));

TEST_P(TinyEncoder, EqualsTransformersAndSentenceTransformers) {
  const auto encoder = load(path());
  ASSERT_NE(encoder, nullptr);
  const auto texts = texts_of(path() / "golden.json");
  expect_golden(*encoder, texts, Golden((path() / "golden.safetensors").string()), 1e-5);
}

TEST_P(TinyEncoder, GivesTheSameBitsAgain) {
  const auto encoder = load(path());
  ASSERT_NE(encoder, nullptr);
  const auto texts = texts_of(path() / "golden.json");
  EXPECT_TRUE(at::equal(embed(*encoder, texts), embed(*encoder, texts)));
  EXPECT_EQ(embed(*encoder, {}).size(0), 0);
}

TEST_P(TinyEncoder, InBf16StaysNear) {
  const auto encoder = load(path(), {.dtype = at::kBFloat16});
  ASSERT_NE(encoder, nullptr);
  const at::Tensor expected = Golden((path() / "golden.safetensors").string()).get("embeddings");
  // Each of about ten roundings a layer is 2^-9 relative; they add up like a random walk.
  EXPECT_LT(difference(embed(*encoder, texts_of(path() / "golden.json")), expected), 0.08 * expected.abs().max().item<double>());
}

TEST(ManyTexts, GoThroughInBatchesInTheirOwnOrder) {
  const auto encoder = load(kGoldenRoot / "encoders/bert");
  ASSERT_NE(encoder, nullptr);
  const auto texts = texts_of(kGoldenRoot / "encoders/bert/golden.json");
  const at::Tensor expected = embed(*encoder, texts);
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.insert(many.end(), texts.begin(), texts.end());  // 12,000 tokens: several batches
  const at::Tensor vectors = embed(*encoder, many);
  for (int64_t i = 0; i < vectors.size(0); ++i) EXPECT_LT(difference(vectors[i], expected[i % expected.size(0)]), 1e-5) << i;
}

TEST(Hidden, SequencesOfAnyOrderDoNotSeeEachOther) {
  const auto encoder = load(kGoldenRoot / "encoders/bert");
  ASSERT_NE(encoder, nullptr);
  const Golden golden((kGoldenRoot / "encoders/bert/golden.safetensors").string());
  std::vector<std::vector<int32_t>> sequences;
  for (const char* n : {"7", "0", "1", "4", "11"}) sequences.push_back(golden.ids(std::string("ids_") + n));
  const PackedSequences batch = pack_sequences(sequences);
  const at::Tensor states = encoder->hidden(batch);
  size_t i = 0;
  for (const char* n : {"7", "0", "1", "4", "11"}) {
    EXPECT_LT(relative_error(states.narrow(0, batch.offsets[i], batch.offsets[i + 1] - batch.offsets[i]), golden.get(std::string("hidden_") + n)), 1e-5) << n;
    ++i;
  }
}

TEST(Hidden, RefusesIdsAndLengthsThatTheModelHasNot) {
  const auto encoder = load(kGoldenRoot / "encoders/bert");
  ASSERT_NE(encoder, nullptr);
  const auto message = [&](const std::vector<std::vector<int32_t>>& sequences) {
    try {
      (void)encoder->hidden(pack_sequences(sequences));
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string("accepted");
  };
  const auto vocabulary = static_cast<int32_t>(encoder->config().vocab_size);
  EXPECT_EQ(message({{0, vocabulary - 1}}), "accepted");
  EXPECT_THAT(message({{0, vocabulary}}), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(message({{-1}}), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(message({std::vector<int32_t>(65, 1)}), HasSubstr("65 tokens, the model reads at most 64"));
  EXPECT_THAT(message({}), HasSubstr("no tokens"));
}

// A copy of a tiny encoder in which one thing is changed.
class Broken : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("deepseek-bert-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    take("bert");
  }
  void TearDown() override { fs::remove_all(folder_); }
  void take(const std::string& name) {
    fs::remove_all(folder_);
    fs::copy(kGoldenRoot / "encoders" / name, folder_, fs::copy_options::recursive);
  }
  void put(const std::string& file, const std::string& text) const {
    fs::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  [[nodiscard]] Json json(const std::string& file) const { return *base::parse_json(*base::read_file(folder_ / file)); }
  [[nodiscard]] std::string refusal() const {
    auto encoder = load_encoder(folder_);
    return encoder ? "accepted" : encoder.error().message;
  }
  [[nodiscard]] std::string with(const std::string& file, const std::string& text) const {
    const std::string before = base::read_file(folder_ / file).value_or("");
    put(file, text);
    std::string said = refusal();
    put(file, before);
    return said;
  }
  [[nodiscard]] std::string with_field(const std::string& file, const std::string& key, const Json& value) const {
    Json changed = json(file);
    changed[key] = value;
    return with(file, changed.dump());
  }
  // The weights file anew, each tensor as `change` leaves it; a tensor without a name is left out.
  template <typename Change>
  void rewrite_weights(const Change& change) const {
    std::vector<formats::TensorToWrite> tensors;
    std::vector<std::vector<std::byte>> kept;
    {
      auto file = formats::SafeTensors::open(folder_);
      ASSERT_TRUE(file) << file.error().message;
      for (const auto& info : file->tensors()) {
        kept.emplace_back(info.bytes.begin(), info.bytes.end());
        formats::TensorToWrite tensor{info.name, info.type, info.shape, {}};
        change(tensor, kept.back());
        if (tensor.name.empty()) kept.pop_back();
        else tensors.push_back(tensor);
      }
    }
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].bytes = kept[i];
    ASSERT_TRUE(formats::write_safetensors(folder_ / "model.safetensors", tensors));
  }
  fs::path folder_;
};

TEST_F(Broken, WeightsThatAreCutMissingMisshapenOrNoNumbers) {
  constexpr const char* kName = "encoder.layer.1.intermediate.dense.weight";
  rewrite_weights([&](auto& tensor, auto&) {
    if (tensor.name == kName) tensor.name.clear();
  });
  EXPECT_THAT(refusal(), HasSubstr("tensor 'encoder.layer.1.intermediate.dense.weight' is missing"));
  take("bert");
  rewrite_weights([&](auto& tensor, auto&) {
    if (tensor.name == kName) std::swap(tensor.shape[0], tensor.shape[1]);
  });
  EXPECT_THAT(refusal(), HasSubstr("has shape [32, 56], the configuration asks for [56, 32]"));
  take("bert");
  rewrite_weights([&](auto& tensor, auto& bytes) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (tensor.name == kName) std::memcpy(bytes.data() + 8, &nan, sizeof nan);
  });
  EXPECT_THAT(refusal(), HasSubstr(kName));
  take("bert");
  fs::resize_file(folder_ / "model.safetensors", fs::file_size(folder_ / "model.safetensors") - 1000);
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors"));
  fs::remove(folder_ / "model.safetensors");
  EXPECT_THAT(refusal(), HasSubstr(folder_.string()));
}

TEST_F(Broken, NamesWithAPrefixAndHalfPrecisionMeanTheSame) {
  const auto texts = texts_of(folder_ / "golden.json");
  const at::Tensor expected = embed(*load(folder_), texts);
  rewrite_weights([](auto& tensor, auto&) { tensor.name = "bert." + tensor.name; });
  EXPECT_TRUE(at::equal(embed(*load(folder_), texts), expected));
  rewrite_weights([](auto& tensor, auto& bytes) {
    if (tensor.type != formats::DType::kF32) return;
    std::vector<std::byte> half(bytes.size() / 2);
    formats::f32_to_f16({reinterpret_cast<const float*>(bytes.data()), bytes.size() / 4}, {reinterpret_cast<uint16_t*>(half.data()), bytes.size() / 4});
    bytes = half;
    tensor.type = formats::DType::kF16;
  });
  EXPECT_LT(difference(embed(*load(folder_), texts), expected), 5e-3);
}

TEST_F(Broken, ConfigurationsThatAreNoEncoderOrAbsurd) {
  EXPECT_EQ(refusal(), "accepted");
  EXPECT_THAT(with_field("config.json", "model_type", "llama"), HasSubstr("the model type 'llama' is no encoder that is supported; supported are bert"));
  EXPECT_THAT(with_field("config.json", "model_type", "mpnet"), HasSubstr("'mpnet' is no encoder that is supported"));
  EXPECT_THAT(with_field("config.json", "hidden_act", "silu"), HasSubstr("hidden_act 'silu' is not supported"));
  EXPECT_THAT(with_field("config.json", "position_embedding_type", "relative_key"), HasSubstr("'relative_key' is not supported"));
  EXPECT_THAT(with_field("config.json", "is_decoder", true), HasSubstr("is_decoder is true"));
  EXPECT_THAT(with_field("config.json", "num_attention_heads", 5), HasSubstr("hidden_size 32 is no multiple of num_attention_heads 5"));
  EXPECT_THAT(with_field("config.json", "hidden_size", "many"), HasSubstr("hidden_size is \"many\", which is no whole number"));
  EXPECT_THAT(with_field("config.json", "hidden_size", int64_t{1} << 40), HasSubstr("more than any model has"));
  EXPECT_THAT(with_field("config.json", "num_hidden_layers", 0), HasSubstr("num_hidden_layers is 0"));
  EXPECT_THAT(with_field("config.json", "layer_norm_eps", 0), HasSubstr("layer_norm_eps 0 is not in (0, 1)"));
  EXPECT_THAT(with_field("config.json", "pad_token_id", -1), HasSubstr("pad_token_id -1 is outside"));
  EXPECT_THAT(with_field("config.json", "vocab_size", 100), HasSubstr("they do not belong together"));
  EXPECT_THAT(with("config.json", "[]"), HasSubstr("config.json is no JSON object"));
  EXPECT_THAT(with("config.json", "{"), HasSubstr("config.json"));
  EXPECT_THAT(load_encoder("/no/such/model").error().message, HasSubstr("/no/such/model/config.json"));
  EXPECT_THAT(load_encoder("model.gguf").error().message, HasSubstr("not from a .gguf"));
}

TEST_F(Broken, PoolingsAndModulesThatAreNotKnown) {
  const std::string pooling = "1_Pooling/config.json";
  EXPECT_THAT(with_field(pooling, "pooling_mode_mean_sqrt_len_tokens", true), HasSubstr("the pooling mean_sqrt_len_tokens is not supported; supported are cls, max and mean"));
  EXPECT_THAT(with_field(pooling, "pooling_mode", "lasttoken"), HasSubstr("the pooling \"lasttoken\" is not supported"));
  EXPECT_THAT(with_field(pooling, "pooling_mode", Json::array()), HasSubstr("pooling_mode names no pooling"));
  EXPECT_THAT(with_field(pooling, "pooling_mode", 7), HasSubstr("the pooling 7 is not supported"));
  EXPECT_THAT(with(pooling, "[]"), HasSubstr("is no JSON object"));
  EXPECT_THAT(with("modules.json", "{}"), HasSubstr("is no list of modules"));
  EXPECT_THAT(with("modules.json", R"([{"type":"a.Transformer","path":""},{"type":"a.Pooling","path":"1_Pooling"},{"type":"a.Dense","path":"2_Dense"}])"),
              HasSubstr("the modules Transformer, Pooling, Dense are not supported"));
  EXPECT_THAT(with("modules.json", R"([{"type":"a.Transformer","path":""},{"type":"a.Pooling","path":"../.."}])"), HasSubstr("leaves the model's directory"));
  EXPECT_THAT(with("modules.json", R"([{"type":"a.Transformer","path":""},{"type":"a.Pooling","path":"9_Pooling"}])"), HasSubstr("is missing, though modules.json names it"));
  EXPECT_THAT(with("modules.json", "[7]"), HasSubstr("are not supported"));
  EXPECT_THAT(with("sentence_bert_config.json", R"({"max_seq_length": "many"})"), HasSubstr("max_seq_length is \"many\", which is no number of tokens"));
  EXPECT_THAT(with("sentence_bert_config.json", R"({"max_seq_length": -1})"), HasSubstr("max_seq_length is -1"));
}

TEST_F(Broken, WithoutSentenceFilesTheMeanCountsAndTheModelsOwnLength) {
  fs::remove(folder_ / "modules.json");
  fs::remove(folder_ / "sentence_bert_config.json");
  const auto encoder = load(folder_);
  ASSERT_NE(encoder, nullptr);
  EXPECT_EQ(encoder->max_tokens(), 64);
  const Golden golden((folder_ / "golden.safetensors").string());
  EXPECT_LT(difference(embed(*encoder, {texts_of(folder_ / "golden.json")[0]})[0], golden.get("hidden_0").mean(0)), 1e-5);
}

TEST_F(Broken, ATextWithoutTokensIsNamed) {
  Json tokenizer = json("tokenizer.json");
  tokenizer["post_processor"] = nullptr;
  put("tokenizer.json", tokenizer.dump());
  const auto encoder = load(folder_);
  ASSERT_NE(encoder, nullptr);
  const auto vectors = encoder->embed(std::vector<std::string>{"a bond", ""});
  ASSERT_FALSE(vectors);
  EXPECT_EQ(vectors.error().message, "text 2 of 2 has no token that the model could read");
}

TEST(Decoders, SayThatAnEncoderHasNoTextToGenerate) {
  const auto config = read_decoder_config(kGoldenRoot / "encoders/bert");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("('bert') is an encoder, it has no text to generate"));
  EXPECT_EQ(config.error().kind, base::ErrorKind::kRequest);
}

TEST(MiniLm, EqualsSentenceTransformers) {
  const fs::path path = find_packaged("all-minilm-l6-v2")->find();
  if (path.empty()) GTEST_SKIP() << "not on this machine: deepseek-cli pull all-minilm-l6-v2";
  const auto encoder = load(path);
  ASSERT_NE(encoder, nullptr);
  EXPECT_EQ(encoder->dimension(), 384);
  EXPECT_EQ(encoder->max_tokens(), 256);
  const auto texts = texts_of(kGoldenRoot / "minilm.json");
  expect_golden(*encoder, texts, Golden((kGoldenRoot / "minilm.safetensors").string()), 1e-4);
  EXPECT_LT(difference(at::linalg_vector_norm(embed(*encoder, texts), 2, at::IntArrayRef{1}), at::ones({static_cast<int64_t>(texts.size())})), 1e-5);
}

}  // namespace
}  // namespace deepseek::models
