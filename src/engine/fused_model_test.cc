// The fused pass against the plain decoder and Transformers, in any batch, piece and order; losses; bad input.
#include "engine/fused_model.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "engine/language_model.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

// Counts what any thread takes from the heap while it is told to.
static std::atomic<bool> counting{false};
static std::atomic<int> allocations{0};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which have their own
constexpr bool kCounts = true;
[[gnu::noinline]] void* operator new(size_t size) {
  if (counting) ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#else
constexpr bool kCounts = false;
#endif

namespace deepseek::engine {
namespace {

using ::testing::HasSubstr;

const std::string kModels = DEEPSEEK_SOURCE_DIR "/tests/golden/models/";

// Keys, values and probabilities are bf16 in the engine's cache: each is off by up to 2^-9 of itself, a logit by some of these.
constexpr double kCacheRounding = 0.03;

std::unique_ptr<FusedModel> open(const std::string& path, int threads = 2, int64_t cache_tokens = 4096, kernels::KvType type = kernels::KvType::kBF16,
                                 std::optional<kernels::SelectionOptions> selection = {}) {
  auto team = std::make_shared<hardware::Team>(threads);
  auto checkpoint = models::DecoderCheckpoint::open(path);
  EXPECT_TRUE(checkpoint);
  auto weights = pack_checkpoint(*checkpoint, *team);
  EXPECT_TRUE(weights) << (weights ? "" : weights.error().message);
  auto model = FusedModel::create(std::move(*weights), team, {cache_tokens, type, selection});
  EXPECT_TRUE(model);
  return std::move(*model);
}

std::vector<float> feed(FusedModel& model, CachedSequence& sequence, const std::vector<int32_t>& tokens, bool all = false) {
  const SequenceInput input[] = {{&sequence, tokens, all}};
  auto logits = model.forward(input);
  EXPECT_TRUE(logits) << (logits ? "" : logits.error().message);
  return logits ? std::vector<float>(logits->begin(), logits->end()) : std::vector<float>();
}

at::Tensor tensor(std::vector<float>& values, int64_t rows) {
  return at::from_blob(values.data(), {rows, static_cast<int64_t>(values.size()) / rows}, at::kFloat).clone();
}

class TinyModel : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(FusedModel, TinyModel, ::testing::Values("gemma2", "gemma3", "llama_gqa", "llama_linear", "llama_mha", "qwen2", "qwen3"),
                         [](const auto& info) { return info.param; });

TEST_P(TinyModel, LogitsEqualTransformersButForTheCache) {
  const std::string path = kModels + GetParam();
  const auto model = open(path);
  const models::Golden golden(path + "/golden.safetensors");
  for (int i = 0; golden.has("ids_" + std::to_string(i)); ++i) {
    const auto ids = golden.ids("ids_" + std::to_string(i));
    CachedSequence sequence;
    auto logits = feed(*model, sequence, ids, true);
    EXPECT_LT(models::relative_error(tensor(logits, static_cast<int64_t>(ids.size())), golden.get("logits_" + std::to_string(i))), kCacheRounding) << i;
    model->truncate(sequence, 0);
  }
}

TEST_P(TinyModel, ACacheInInt8CostsLittle) {
  const std::string path = kModels + GetParam();
  const auto model = open(path, 2, 4096, kernels::KvType::kInt8);
  const models::Golden golden(path + "/golden.safetensors");
  for (int i = 0; golden.has("ids_" + std::to_string(i)); ++i) {
    const auto ids = golden.ids("ids_" + std::to_string(i));
    CachedSequence sequence;
    auto logits = feed(*model, sequence, ids, true);
    EXPECT_LT(models::relative_error(tensor(logits, static_cast<int64_t>(ids.size())), golden.get("logits_" + std::to_string(i))), 2 * kCacheRounding) << i;
    model->truncate(sequence, 0);
  }
}

TEST_P(TinyModel, PiecesBatchesAndNeighboursDoNotChangeASequence) {
  const std::string path = kModels + GetParam();
  const auto model = open(path);
  const models::Golden golden(path + "/golden.safetensors");
  const auto ids = golden.ids("ids_2"), other = golden.ids("ids_1");
  CachedSequence whole, pieces, neighbour, batched;
  const auto expected = feed(*model, whole, ids);
  std::vector<float> got;
  for (const int32_t id : ids) got = feed(*model, pieces, {id});
  const auto far = [](const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      most = std::max<double>(most, std::abs(a[i] - b[i]));
      size = std::max<double>(size, std::abs(a[i]));
    }
    return most / size;
  };
  // The same keys and values, in another order of additions.
  EXPECT_LT(far(expected, got), 0.01);
  const SequenceInput both[] = {{&neighbour, other}, {&batched, ids}};
  auto logits = model->forward(both);
  ASSERT_TRUE(logits);
  const auto vocabulary = static_cast<size_t>(model->config().vocab_size);
  const std::vector<float> second(logits->begin() + static_cast<std::ptrdiff_t>(vocabulary), logits->end());
  EXPECT_LT(far(expected, second), 0.01);
  // Threads change nothing.
  const auto alone = open(path, 1);
  CachedSequence again;
  EXPECT_EQ(feed(*alone, again, ids), expected);
}

TEST_P(TinyModel, AForgottenEndCanBeWrittenAgain) {
  const std::string path = kModels + GetParam();
  const auto model = open(path);
  const models::Golden golden(path + "/golden.safetensors");
  const auto ids = golden.ids("ids_2");
  CachedSequence straight, turned;
  const auto expected = feed(*model, straight, ids);
  feed(*model, turned, ids);
  model->truncate(turned, 3);
  EXPECT_EQ(turned.length, 3);
  feed(*model, turned, std::vector<int32_t>(5, ids[0]));
  model->truncate(turned, 3);
  const auto got = feed(*model, turned, {ids.begin() + 3, ids.end()});
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 0.01 * (1 + std::abs(expected[i])));
}

TEST_P(TinyModel, LossesAreThoseOfTheLogits) {
  const std::string path = kModels + GetParam();
  const auto model = open(path);
  const models::Golden golden(path + "/golden.safetensors");
  const auto ids = golden.ids("ids_2");
  CachedSequence a, b;
  auto logits = feed(*model, a, ids, true);
  const at::Tensor log_p = at::log_softmax(tensor(logits, static_cast<int64_t>(ids.size())).to(at::kDouble), -1);
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  const SequenceInput input[] = {{&b, ids, false, targets}};
  const auto losses = model->losses(input);
  ASSERT_TRUE(losses);
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    EXPECT_NEAR((*losses)[i], -log_p[static_cast<int64_t>(i)][targets[i]].item<double>(), 1e-4) << i;
  }
  EXPECT_EQ(losses->back(), 0.0f);
}

std::vector<int32_t> words(int64_t count) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(i * i % 251));
  return out;
}

TEST_P(TinyModel, SelectingAllKeysChangesNothing) {
  const auto dense = open(kModels + GetParam()), sparse = open(kModels + GetParam(), 2, 4096, kernels::KvType::kBF16, kernels::SelectionOptions{.mode = kernels::SelectionOptions::Mode::kRatio, .ratio = 1, .dense_below = 0});
  for (const int64_t length : {1, 63, 64, 65, 200, 250}) {
    CachedSequence a, b;
    const auto ids = words(length);
    auto expected = feed(*dense, a, ids, true), got = feed(*sparse, b, ids, true);
    EXPECT_LT(models::relative_error(tensor(got, length), tensor(expected, length)), 0.005) << length;
    for (int i = 0; i < 3; ++i) {
      auto next = feed(*dense, a, {7}), other = feed(*sparse, b, {7});
      EXPECT_LT(models::relative_error(tensor(other, 1), tensor(next, 1)), 0.005) << length << " and " << i;
    }
    dense->truncate(a, 0);
    sparse->truncate(b, 0);
  }
  EXPECT_EQ(sparse->share_of_keys_read(), 1.0);
  EXPECT_EQ(dense->share_of_keys_read(), 1.0);
}

TEST_P(TinyModel, ASelectionReadsLessAndIsTheSameInAnyPieces) {
  const kernels::SelectionOptions options{.mode = kernels::SelectionOptions::Mode::kRatio, .ratio = 0.3f, .dense_below = 0};
  const auto model = open(kModels + GetParam(), 2, 4096, kernels::KvType::kBF16, options);
  const auto ids = words(256);
  CachedSequence whole, pieces, forgotten;
  const auto expected = feed(*model, whole, ids);
  EXPECT_LT(model->share_of_keys_read(), 1.0);
  EXPECT_GT(model->share_of_keys_read(), 0.3);
  std::vector<float> got;
  for (size_t at = 0; at < ids.size(); at += 64) got = feed(*model, pieces, {ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(at) + 64});
  EXPECT_EQ(got, expected);
  // What was written over has left no summary behind.
  feed(*model, forgotten, words(150));
  model->truncate(forgotten, 0);
  feed(*model, forgotten, std::vector<int32_t>(200, 3));
  model->truncate(forgotten, 30);
  model->truncate(forgotten, 0);
  EXPECT_EQ(feed(*model, forgotten, ids), expected);
}

TEST_P(TinyModel, AStepTakesNothingFromTheHeap) {
  if (!kCounts) GTEST_SKIP() << "a sanitizer counts for itself";
  using Selection = std::optional<kernels::SelectionOptions>;
  const Selection some = kernels::SelectionOptions{.mode = kernels::SelectionOptions::Mode::kTopP, .least = 16, .dense_below = 0};
  for (const auto& [type, selection] : {std::pair{kernels::KvType::kBF16, Selection()}, {kernels::KvType::kInt8, Selection()}, {kernels::KvType::kBF16, some}}) {
    const auto model = open(kModels + GetParam(), 2, 4096, type, selection);
    CachedSequence one, two;
    // Room for what grows with the positions: pages of the sequences, and the scratch of each thread.
    feed(*model, one, words(selection ? 200 : 70));
    feed(*model, two, std::vector<int32_t>(3, 7));
    const int32_t token[] = {9};
    const SequenceInput inputs[] = {{&one, token}, {&two, token}};
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(model->forward(inputs));  // either thread has had every kind of work
    counting = true;
    allocations = 0;
    bool sound = true;
    for (int i = 0; i < 10; ++i) sound = sound && model->forward(inputs).has_value();
    counting = false;
    EXPECT_TRUE(sound);
    EXPECT_EQ(allocations, 0);
  }
}

// PEFT's adapters on their models, merged by PEFT.
TEST(FusedModel, AnAdapterIsMergedAsPeftDoes) {
  for (const std::string name : {"llama_gqa-lora", "llama_gqa-dora", "llama_gqa-patterns", "qwen3-rslora", "gemma3-layers"}) {
    const std::string adapter = DEEPSEEK_SOURCE_DIR "/tests/golden/adapters/" + name;
    hardware::Team team(2);
    auto checkpoint = models::DecoderCheckpoint::open(kModels + name.substr(0, name.find('-')));
    ASSERT_TRUE(checkpoint);
    auto weights = pack_checkpoint(*checkpoint, team, {.adapter = adapter});
    ASSERT_TRUE(weights) << weights.error().message;
    auto model = FusedModel::create(std::move(*weights), std::make_shared<hardware::Team>(2), {1024});
    ASSERT_TRUE(model);
    const models::Golden golden(adapter + "/golden.safetensors");
    const auto ids = golden.ids("ids");
    CachedSequence sequence;
    auto logits = feed(**model, sequence, ids, true);
    EXPECT_LT(models::relative_error(tensor(logits, static_cast<int64_t>(ids.size())), golden.get("merged_logits")), kCacheRounding) << name;
  }
}

TEST(FusedModel, WhatIsNoAdapterOfThisModelIsRefused) {
  hardware::Team team(1);
  auto checkpoint = models::DecoderCheckpoint::open(kModels + "llama_gqa");
  ASSERT_TRUE(checkpoint);
  const auto refusal = [&](const std::string& adapter) { return pack_checkpoint(*checkpoint, team, {.adapter = adapter}).error().message; };
  EXPECT_THAT(refusal("/nonexistent"), HasSubstr("is no adapter"));
  EXPECT_THAT(refusal(DEEPSEEK_SOURCE_DIR "/tests/golden/adapters/gemma3-lora"), HasSubstr("was it made for another model?"));
}

TEST(FusedModel, AnAdapterThatMakesInfiniteWeightsIsRefused) {
  const base::fs::path from = DEEPSEEK_SOURCE_DIR "/tests/golden/adapters/llama_gqa-lora", to = base::fs::temp_directory_path() / ("deepseek-huge-" + std::to_string(::getpid()));
  base::fs::create_directories(to);
  base::fs::copy_file(from / "adapter_model.safetensors", to / "adapter_model.safetensors", base::fs::copy_options::overwrite_existing);
  auto json = *base::parse_json(*base::read_file(from / "adapter_config.json"));
  json["lora_alpha"] = 1e300;
  ASSERT_TRUE(base::write_file_atomically(to / "adapter_config.json", json.dump()));
  hardware::Team team(1);
  auto checkpoint = models::DecoderCheckpoint::open(kModels + "llama_gqa");
  ASSERT_TRUE(checkpoint);
  EXPECT_THAT(pack_checkpoint(*checkpoint, team, {.adapter = to}).error().message, HasSubstr("are not finite numbers"));
  base::fs::remove_all(to);
}

TEST(FusedModel, TheTypeThatIsAskedForIsPacked) {
  hardware::Team team(1);
  auto checkpoint = models::DecoderCheckpoint::open(kModels + "llama_gqa");  // f32
  ASSERT_TRUE(checkpoint);
  const auto bits = [&](const char* dtype) { return pack_checkpoint(*checkpoint, team, {.as = *pack_as(dtype)})->layers[0].q.weight.format().bits; };
  EXPECT_EQ(bits("auto"), 32);
  EXPECT_EQ(bits("f32"), 32);
  EXPECT_EQ(bits("bf16"), 16);
  EXPECT_THAT(pack_as("fp8").error().message, HasSubstr("use auto, f32 or bf16"));
}

// What runs on a device by libtorch gives what the fused pass gives: here on the CPU.
TEST(FusedModel, EqualsThePlainModelThatIsLoadedForADevice) {
  auto text = models::open_model(kModels + "qwen3");
  ASSERT_TRUE(text);
  auto fused = load_fused(*text, {.threads = 2, .cache = false}), plain = load_plain(*text, {.dtype = "f32"});
  ASSERT_TRUE(fused && plain);
  const std::vector<int32_t> ids{1, 5, 9, 20, 33};
  auto a = (*fused)->new_sequence(), b = (*plain)->new_sequence();
  auto one = a->feed(ids), other = b->feed(ids);
  ASSERT_TRUE(one && other);
  std::vector<float> x(one->begin(), one->end()), y(other->begin(), other->end());
  EXPECT_LT(models::relative_error(tensor(x, 1), tensor(y, 1)), kCacheRounding);
  EXPECT_THAT(load_plain(*text, {.device = "tpu"}).error().message, HasSubstr("use cpu or cuda"));
}

// The packaged Gemma: Q4_K, Q5_0, Q6_K and Q8_0 in one file.
base::fs::path gemma() {
  const char* named = std::getenv("DEEPSEEK_GEMMA");
  return named != nullptr ? base::fs::path(named) : base::cache_directory() / "models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf";
}

TEST(FusedModel, ARealFilesWeightsAreExact) {
  if (!base::fs::exists(gemma())) GTEST_SKIP() << "no " << gemma();
  hardware::Team team(2);
  auto checkpoint = models::DecoderCheckpoint::open(gemma());
  ASSERT_TRUE(checkpoint);
  auto weights = pack_checkpoint(*checkpoint, team, {.check_weights = false});
  ASSERT_TRUE(weights);
  const auto& c = weights->config;
  const auto compare = [&](const kernels::PackedMatrix& packed, const base::Result<const formats::TensorInfo*>& info) {
    ASSERT_TRUE(info);
    std::vector<float> expected(static_cast<size_t>(packed.columns())), got(expected.size());
    for (int64_t r = 0; r < packed.rows(); r += std::max<int64_t>(1, packed.rows() / 37)) {
      ASSERT_TRUE(formats::dequantize_range(**info, r * packed.columns(), expected));
      packed.row(r, got);
      ASSERT_EQ(got, expected) << (*info)->name << " " << formats::dtype_name((*info)->type) << " row " << r;
    }
  };
  compare(weights->embedding, checkpoint->top("embed_tokens", {c.vocab_size, c.hidden_size}));
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const auto& layer = weights->layers[static_cast<size_t>(i)];
    compare(layer.q.weight, checkpoint->layer(i, "self_attn.q_proj", {c.num_heads * c.head_dim, c.hidden_size}));
    compare(layer.v.weight, checkpoint->layer(i, "self_attn.v_proj", {c.num_kv_heads * c.head_dim, c.hidden_size}));
    compare(layer.o.weight, checkpoint->layer(i, "self_attn.o_proj", {c.hidden_size, c.num_heads * c.head_dim}));
    compare(layer.down.weight, checkpoint->layer(i, "mlp.down_proj", {c.hidden_size, c.intermediate_size}));
  }
}

TEST(FusedModel, ARealModelLosesLittle) {
  if (!base::fs::exists(gemma())) GTEST_SKIP() << "no " << gemma();
  const std::string text = *base::read_file(DEEPSEEK_SOURCE_DIR "/docs/architecture.md");
  auto opened = models::open_model(gemma().string());
  ASSERT_TRUE(opened);
  auto ids = opened->tokenizer.encode(text);
  ids.resize(std::min<size_t>(ids.size(), 700));
  const std::vector<uint8_t> counted(ids.size(), 1);
  const LanguageModel::Scored scored[] = {{ids, counted}};
  auto decoder = models::load_decoder(gemma(), {.dtype = at::kFloat});
  ASSERT_TRUE(decoder);
  const auto exact = plain_model(**decoder)->loss(scored);
  auto fused = load_fused(*opened, {.threads = 2, .cache = false});
  ASSERT_TRUE(fused);
  const auto got = (*fused)->loss(scored);
  ASSERT_TRUE(exact && got);
  // Activations in int8 and keys and values in bf16; llama.cpp's own cost on such text is as much.
  EXPECT_NEAR(*got / *exact, 1.0, 0.01);
}

TEST(FusedModel, WhatCannotBeFedIsRefusedAndChangesNothing) {
  const auto model = open(kModels + "llama_gqa", 2, 64);
  CachedSequence sequence, second;
  feed(*model, sequence, {1, 2, 3});
  const auto refusal = [&](std::vector<int32_t> tokens, CachedSequence* to) {
    const SequenceInput input[] = {{to, tokens}};
    auto logits = model->forward(input);
    return logits ? "accepted" : logits.error().message;
  };
  EXPECT_THAT(refusal({}, &sequence), HasSubstr("no tokens"));
  EXPECT_THAT(refusal({-1}, &sequence), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(refusal({1 << 30}, &sequence), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(refusal({4}, &second), HasSubstr("the cache is full"));
  EXPECT_THAT(refusal(std::vector<int32_t>(FusedModel::kMostTokens + 1, 1), &sequence), HasSubstr("a pass takes 1 to"));
  EXPECT_EQ(sequence.length, 3);
  EXPECT_EQ(second.pages.size(), 0u);
  model->truncate(sequence, 0);
  EXPECT_EQ(refusal({4}, &second), "accepted");
}

}  // namespace
}  // namespace deepseek::engine
