// Decoders that read by trained indexers: packed and with a cache, against dense attention; files and what is refused.
#include "models/adapter/indexer.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "models/adapter/adapter.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

namespace deepseek::models {
namespace {

namespace fs = base::fs;
using ::testing::HasSubstr;

std::unique_ptr<Decoder> tiny(const std::string& name) {
  auto decoder = load_decoder(fs::path(DEEPSEEK_SOURCE_DIR "/tests/golden/models") / name);
  EXPECT_TRUE(decoder) << (decoder ? "" : decoder.error().message);
  return std::move(*decoder);
}

std::vector<int32_t> some_tokens(int64_t n, int64_t vocabulary) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<int32_t>((i * i * 7 + i * 13 + 5) % vocabulary));
  return out;
}

class Indexers : public ::testing::Test {
 protected:
  Indexers() : path_(fs::temp_directory_path() / ("deepseek-indexer-" + std::to_string(::getpid()))) {
    at::set_num_threads(1);  // rows of a tiny model are not worth a second
    fs::create_directories(path_);
  }
  ~Indexers() override { fs::remove_all(path_); }
  fs::path path_;
  const at::NoGradGuard no_grad_;
};

TEST_F(Indexers, ALimitAboveTheLengthIsDenseAndOneBelowIsNot) {
  for (const char* name : {"llama_gqa", "gemma3"}) {
    const auto decoder = tiny(name);
    const auto tokens = some_tokens(40, decoder->config().vocab_size);
    const at::Tensor dense = decoder->hidden(pack_sequences({tokens}));
    ASSERT_TRUE(attach_indexers(*decoder, {.heads = 2, .dim = 8, .top_k = 40}, 3));
    EXPECT_LT(relative_error(decoder->hidden(pack_sequences({tokens})), dense), 1e-5) << name;
    EXPECT_EQ(decoder->share_of_keys_read(), 1.0);
    decoder->set_reads({true, {.value = 10}});
    EXPECT_GT(relative_error(decoder->hidden(pack_sequences({tokens})), dense), 1e-4) << name;
    EXPECT_LT(decoder->share_of_keys_read(), 0.8);
    decoder->set_reads({});
    EXPECT_LT(relative_error(decoder->hidden(pack_sequences({tokens})), dense), 1e-5) << name;
  }
}

TEST_F(Indexers, PackedEqualsStepByStepAtEveryCut) {
  for (const char* name : {"llama_gqa", "gemma3"}) {
    const auto decoder = tiny(name);
    const auto tokens = some_tokens(45, decoder->config().vocab_size), other = some_tokens(9, decoder->config().vocab_size);
    ASSERT_TRUE(attach_indexers(*decoder, {.heads = 3, .dim = 12, .top_k = 11}, 5));
    const auto check = [&] {
      const at::Tensor whole = decoder->logits(decoder->hidden(pack_sequences({other, tokens})).narrow(0, 9, 45));
      for (const size_t cut : {1, 10, 11, 12, 30}) {
        KvCache cache;
        const std::vector<int32_t> first(tokens.begin(), tokens.begin() + static_cast<int64_t>(cut));
        (void)decoder->step(first, cache);
        for (size_t i = cut; i < tokens.size(); ++i) {
          const at::Tensor row = decoder->step({tokens[i]}, cache);
          EXPECT_LT(relative_error(row, whole[static_cast<int64_t>(i)]), 1e-4) << name << " cut " << cut << " token " << i;
        }
        cache.truncate(20);
        const std::vector<int32_t> rest(tokens.begin() + 20, tokens.end());
        EXPECT_LT(relative_error(decoder->step_all(rest, cache), whole.narrow(0, 20, 25)), 1e-4) << name << " after a cut back";
      }
    };
    check();
    decoder->set_reads({true, {.mode = kernels::IndexerOptions::Mode::kTopP, .value = 0.6, .least = 2, .most = 20}});
    check();
  }
}

TEST_F(Indexers, WatchesEverySequenceOfTheLayersWithoutAWindow) {
  const auto decoder = tiny("gemma3");
  ASSERT_TRUE(attach_indexers(*decoder, {.heads = 2, .dim = 8, .top_k = 6}, 1));
  const auto layers = indexed_layers(decoder->config());
  ASSERT_TRUE(layers);
  EXPECT_LT(layers->size(), decoder->layers().size());
  std::vector<std::pair<size_t, size_t>> seen;
  const IndexerWatch watch = [&](const IndexerView& view) {
    seen.emplace_back(view.layer, view.sequence);
    EXPECT_EQ(view.keys.defined(), view.sequence == 0);
    EXPECT_EQ(view.q.size(2), view.sequence == 0 ? 20 : 5);
    EXPECT_EQ(view.x.size(1), decoder->config().hidden_size);
  };
  (void)decoder->hidden(pack_sequences({some_tokens(20, 90), some_tokens(5, 90)}), false, &watch);
  std::vector<std::pair<size_t, size_t>> expected;
  for (const size_t layer : *layers) expected.insert(expected.end(), {{layer, 0}, {layer, 1}});
  EXPECT_EQ(seen, expected);
}

TEST_F(Indexers, FilesKeepEveryBit) {
  const auto decoder = tiny("llama_gqa"), again = tiny("llama_gqa");
  ASSERT_TRUE(attach_indexers(*decoder, {.heads = 2, .dim = 8, .top_k = 6}, 1));
  ASSERT_TRUE(write_indexers(*decoder, {.base_model = "tiny", .heads = 2, .dim = 8, .top_k = 6, .stage = "warmup"}, path_));
  EXPECT_TRUE(holds_indexer(path_));
  auto read = read_indexers(*again, path_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->top_k, 6);
  EXPECT_EQ(read->stage, "warmup");
  EXPECT_EQ(again->reads().all_below(), 6);
  const auto a = indexer_tensors(*decoder), b = indexer_tensors(*again);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].first == b[i].first && a[i].second.equal(b[i].second)) << a[i].first;
  // The seed and the layer decide the first values.
  const auto other = tiny("llama_gqa");
  ASSERT_TRUE(attach_indexers(*other, {.heads = 2, .dim = 8, .top_k = 6}, 2));
  EXPECT_FALSE(a[0].second.equal(indexer_tensors(*other)[0].second));
  EXPECT_FALSE(a[0].second.equal(a[5].second));
}

TEST_F(Indexers, Refusals) {
  const auto decoder = tiny("llama_gqa");
  ASSERT_TRUE(attach_indexers(*decoder, {.heads = 2, .dim = 8, .top_k = 6}, 1));
  const IndexerConfig config{.base_model = "tiny", .heads = 2, .dim = 8, .top_k = 6};
  const auto refused = [&](const std::string& text, const std::string& model = "llama_gqa") {
    const auto fresh = tiny(model);
    auto read = read_indexers(*fresh, path_);
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().message, HasSubstr(text));
    EXPECT_FALSE(fresh->has_indexer());
  };
  const auto with = [&](const char* key, const nlohmann::ordered_json& value) {
    ASSERT_TRUE(write_indexers(*decoder, config, path_));
    auto json = *base::read_json_file(path_ / kIndexerConfigFile);
    json[key] = value;
    ASSERT_TRUE(base::write_file_atomically(path_ / kIndexerConfigFile, json.dump()));
  };
  ASSERT_TRUE(write_indexers(*decoder, config, path_));
  refused("belongs to another model: it names tiny", "gemma3");
  with("version", 9);
  refused("is of version 9");
  with("index_n_heads", 0);
  refused("1 to 128 heads");
  with("index_head_dim", 7);
  refused("multiple of 4");
  with("index_topk", -3);
  refused("1 to 1,048,576 keys");
  with("layers", "all");
  refused("belongs to another model");
  with("index_n_heads", 3);
  refused("wq.weight");
  ASSERT_TRUE(base::write_file_atomically(path_ / kIndexerConfigFile, "[1]"));
  refused("holds no object");
  ASSERT_TRUE(write_indexers(*decoder, config, path_));
  auto tensors = indexer_tensors(*decoder);
  tensors.emplace_back("extra", tensors[0].second);
  ASSERT_TRUE(write_f32(path_ / kIndexerWeightsFile, tensors));
  refused("tensors where");
  tensors.erase(tensors.begin() + 1);
  ASSERT_TRUE(write_f32(path_ / kIndexerWeightsFile, tensors));
  refused("is missing");
  ASSERT_TRUE(write_indexers(*decoder, config, path_));
  fs::resize_file(path_ / kIndexerWeightsFile, 100);
  refused("indexer.safetensors");
  fs::remove(path_ / kIndexerWeightsFile);
  refused("it has no indexer.safetensors");

  DecoderConfig capped = decoder->config();
  capped.attention_softcap = 50;
  EXPECT_THAT(indexed_layers(capped).error().message, HasSubstr("softcap 50"));
  DecoderConfig sliding = decoder->config();
  sliding.sliding.assign(sliding.sliding.size(), true);
  EXPECT_THAT(indexed_layers(sliding).error().message, HasSubstr("every layer has a sliding window"));
}

}  // namespace
}  // namespace deepseek::models
