// Both stages of an indexer's training on a tiny model: gradients against autograd, whole runs, resume, what is refused.
#include "train/indexer_training.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/xlogy.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <limits>

#include "kernels/sparse_attention/operators.h"
#include "models/adapter/indexer.h"
#include "models/decoder/load.h"
#include "train/step.h"
#include "train/trainer.h"

namespace deepseek::train {
namespace {

namespace fs = base::fs;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class IndexerTraining : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    scratch_ = fs::temp_directory_path() / ("deepseek-indexers-" + std::to_string(::getpid()));
    fs::remove_all(scratch_);
    fs::create_directories(scratch_);
  }
  void TearDown() override { fs::remove_all(scratch_); }

  [[nodiscard]] static std::unique_ptr<models::Decoder> model() {
    auto decoder = models::load_decoder(DEEPSEEK_SOURCE_DIR "/tests/golden/models/llama_gqa");
    EXPECT_TRUE(decoder);
    return std::move(*decoder);
  }

  [[nodiscard]] static TrainingData data() {
    TrainingData out;
    for (int i = 0; i < 12; ++i) {
      models::TokenizedExample example;
      for (int t = 0; t < 40 + i; ++t) example.tokens.push_back((t * t * 3 + t * (7 + i) + i * 11) % 250);
      example.counts.assign(example.tokens.size(), 1);
      example.counts[0] = 0;
      example.row = static_cast<size_t>(i) + 1;
      out.train.push_back(example);
      if (i % 4 == 0) out.validation.push_back(example);  // random text: what is learned is seen on what was trained on
    }
    out.longest = 51;
    out.hash = 5;
    return out;
  }

  [[nodiscard]] TrainOptions options(IndexerStage stage, const std::string& name) const {
    TrainOptions out;
    out.output = scratch_ / name;
    out.adapter = {.rank = 4};
    out.dsa = stage;
    out.indexer = {.heads = 4, .dim = 16, .top_k = 8};
    out.steps = 24;
    out.batch_size = 3;
    out.learning_rate = 1e-2;
    out.eval_every = 8;
    out.save_every = 2;
    return out;
  }

  [[nodiscard]] static std::string bytes(const fs::path& file) { return base::read_file(file).value_or("absent " + file.string()); }

  void refused(const TrainOptions& options, const std::string& text) const {
    const auto decoder = model();
    auto summary = fine_tune(*decoder, data(), options, {}, {});
    ASSERT_FALSE(summary) << text;
    EXPECT_THAT(summary.error().message, HasSubstr(text));
    EXPECT_EQ(summary.error().kind, base::ErrorKind::kRequest);
  }

  fs::path scratch_;
};

// The divergence written out with libtorch's operators, on every layer's scores.
TEST_F(IndexerTraining, GradientsEqualAutograds) {
  const auto decoder = model();
  ASSERT_TRUE(models::attach_indexers(*decoder, {.heads = 3, .dim = 12, .top_k = 8}, 4));
  decoder->set_reads({});
  const auto parameters = trainable_parameters(*decoder);
  std::vector<int32_t> tokens;
  for (int t = 0; t < 37; ++t) tokens.push_back((t * 31 + 5) % 250);
  const auto batch = models::pack_sequences({tokens, {3, 5, 7}});
  double total = 0;
  {
    at::NoGradGuard no_grad;
    const auto watch = indexer_training_watch(*decoder, 40 * 3, total);
    (void)decoder->hidden(batch, false, &watch);
  }
  std::vector<at::Tensor> gradients;
  for (const auto& p : parameters) {
    gradients.push_back(p.grad().clone());
    const_cast<at::Tensor&>(p).mutable_grad() = at::Tensor();
  }
  double expected = 0;
  const models::IndexerWatch reference = [&](const models::IndexerView& view) {
    const at::AutoGradMode with_grad(true);
    const auto& indexer = *decoder->layers()[view.layer].indexer;
    const auto rows = indexer.project(view.x, view.positions, decoder->indexer_frequencies(indexer));
    const at::Tensor k = view.k.repeat_interleave(view.q.size(1) / view.k.size(1), 1), hidden = ~kernels::operators::visible(view.q.size(2), view.k.size(2), at::kCPU);
    const at::Tensor p = at::softmax((at::matmul(view.q, k.transpose(-2, -1)) * decoder->config().attention_scale).masked_fill(hidden, -std::numeric_limits<float>::infinity()), -1).mean(1);
    const at::Tensor x = kernels::index_scores(rows.q.unsqueeze(0), rows.k.unsqueeze(0), rows.weights.unsqueeze(0), true);
    const at::Tensor loss = (at::xlogy(p, p) - p * at::log_softmax(x, -1).masked_fill(hidden, 0)).sum() / (40 * 3);
    expected += loss.item<double>();
    torch::autograd::backward({loss}, {});
  };
  {
    at::NoGradGuard no_grad;
    (void)decoder->hidden(batch, false, &reference);
  }
  EXPECT_NEAR(total, expected, 1e-5);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor want = parameters[i].grad();
    EXPECT_LE((gradients[i] - want).abs().max().item<double>(), 1e-5 * std::max(1.0, want.abs().max().item<double>())) << i;
  }
}

TEST_F(IndexerTraining, WarmupFindsTheAttentionAndLeavesTheModelAlone) {
  const auto decoder = model(), untouched = model();
  std::vector<Json> evaluations;
  auto summary = fine_tune(*decoder, data(), options(IndexerStage::kWarmup, "warm"), {.event = [&](const Json& line) {
                             if (line["type"] == "evaluation") evaluations.push_back(line);
                           }}, {});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_LT(summary->best_loss, 0.9 * summary->base_loss);
  EXPECT_GT(summary->best_recall, summary->base_recall + 0.05);
  ASSERT_EQ(evaluations.size(), 4U);
  EXPECT_FALSE(evaluations[0].contains("perplexity"));
  EXPECT_EQ(evaluations.back()["recall"].get<double>(), summary->best_recall);
  for (const char* file : {"indexer_config.json", "indexer.safetensors", "metrics.jsonl", "last/indexer.safetensors", "last/training_state.safetensors"}) {
    EXPECT_TRUE(fs::exists(scratch_ / "warm" / file)) << file;
  }
  EXPECT_FALSE(fs::exists(scratch_ / "warm" / "adapter_model.safetensors"));
  for (size_t i = 0; i < decoder->layers().size(); ++i) EXPECT_TRUE(decoder->layers()[i].q.weight.equal(untouched->layers()[i].q.weight));
  // The files give what was reported.
  const auto fresh = model();
  ASSERT_TRUE(models::read_indexers(*fresh, scratch_ / "warm"));
  fresh->set_reads({});
  EXPECT_NEAR(mean_loss(indexer_losses(*fresh, data().validation, 4096, 8)), summary->best_loss, 1e-5);
}

TEST_F(IndexerTraining, SparseGoesOnFromIt) {
  const auto warm = model(), sparse = model();
  ASSERT_TRUE(fine_tune(*warm, data(), options(IndexerStage::kWarmup, "warm"), {}, {}));
  auto settings = options(IndexerStage::kSparse, "sparse");
  settings.init_adapter = scratch_ / "warm";
  std::vector<double> losses;
  auto summary = fine_tune(*sparse, data(), settings, {.event = [&](const Json& line) {
                             if (line["type"] == "step") losses.push_back(line["indexer_loss"]);
                           }}, {});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_LT(summary->best_loss, summary->base_loss);
  EXPECT_LT(sparse->share_of_keys_read(), 0.6);
  ASSERT_EQ(losses.size(), 24U);
  for (const double loss : losses) EXPECT_TRUE(loss >= 0 && loss < 2) << loss;
  for (const char* file : {"indexer_config.json", "indexer.safetensors", "adapter_config.json", "adapter_model.safetensors"}) EXPECT_TRUE(fs::exists(scratch_ / "sparse" / file)) << file;
  EXPECT_NE(bytes(scratch_ / "sparse" / "indexer.safetensors"), bytes(scratch_ / "warm" / "indexer.safetensors"));
  const auto fresh = model();
  ASSERT_TRUE(models::read_adapter(*fresh, scratch_ / "sparse"));
  ASSERT_TRUE(models::read_indexers(*fresh, scratch_ / "sparse"));
  EXPECT_NEAR(mean_loss(example_losses(*fresh, data().validation, 4096)), summary->best_loss, 1e-5);
  // Recomputed activations change nothing.
  settings.output = scratch_ / "checkpointed";
  settings.checkpoint = true;
  const auto again = model();
  auto same = fine_tune(*again, data(), settings, {}, {});
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_NEAR(same->best_loss, summary->best_loss, 1e-5);
  // And it goes on from both.
  settings.output = scratch_ / "further";
  settings.init_adapter = scratch_ / "sparse";
  const auto further = model();
  auto more = fine_tune(*further, data(), settings, {}, {});
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_NEAR(more->base_loss, summary->best_loss, 1e-5);
}

TEST_F(IndexerTraining, ResumedEqualsUninterruptedBitForBit) {
  const auto warm = model();
  ASSERT_TRUE(fine_tune(*warm, data(), options(IndexerStage::kWarmup, "warm"), {}, {}));
  for (const auto stage : {IndexerStage::kWarmup, IndexerStage::kSparse}) {
    const std::string name = name_of(stage);
    auto whole = options(stage, "whole-" + name), parts = options(stage, "parts-" + name);
    if (stage == IndexerStage::kSparse) whole.init_adapter = parts.init_adapter = scratch_ / "warm";
    const auto one = model();
    ASSERT_TRUE(fine_tune(*one, data(), whole, {}, {}));
    int steps = 0;
    const TrainHooks hooks{.event = [&](const Json& line) { steps += line["type"] == "step" ? 1 : 0; }, .stop = [&] { return steps == 5; }};
    const auto first = model();
    auto stopped = fine_tune(*first, data(), parts, hooks, {});
    ASSERT_TRUE(stopped) << stopped.error().message;
    EXPECT_EQ(stopped->reason, "interrupted");
    parts.resume = true;
    const auto second = model();
    auto summary = fine_tune(*second, data(), parts, {}, {});
    ASSERT_TRUE(summary) << summary.error().message;
    EXPECT_EQ(bytes(whole.output / "indexer.safetensors"), bytes(parts.output / "indexer.safetensors")) << name;
    parts.indexer.top_k = 9;
    const auto third = model();
    EXPECT_THAT(fine_tune(*third, data(), parts, {}, {}).error().message, HasSubstr("dsa_top_k"));
  }
}

TEST_F(IndexerTraining, Refusals) {
  auto sparse = options(IndexerStage::kSparse, "alone");
  refused(sparse, "holds no indexer; --dsa warmup makes one");
  sparse.init_adapter = scratch_;
  refused(sparse, "holds no indexer");
  auto wide = options(IndexerStage::kWarmup, "wide");
  wide.indexer.top_k = 51;
  refused(wide, "nothing would be left out");
  wide.indexer = {.heads = 0, .dim = 8, .top_k = 4};
  wide.overwrite = true;
  refused(wide, "1 to 128 heads");
  const auto warm = model();
  ASSERT_TRUE(fine_tune(*warm, data(), options(IndexerStage::kWarmup, "warm"), {}, {}));
  refused(options(IndexerStage::kWarmup, "warm"), "holds an earlier run");
  // A run of another kind in the same place leaves nothing of the first.
  auto lora = options(IndexerStage::kNone, "warm");
  lora.overwrite = true;
  const auto tuned = model();
  ASSERT_TRUE(fine_tune(*tuned, data(), lora, {}, {}));
  EXPECT_FALSE(models::holds_indexer(scratch_ / "warm"));
  auto frozen = options(IndexerStage::kWarmup, "frozen");
  frozen.init_adapter = scratch_ / "warm";
  refused(frozen, "merge the LoRA adapter");
}

}  // namespace
}  // namespace deepseek::train
