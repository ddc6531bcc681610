// The training step against PEFT with torch's AdamW: losses, gradient norms and final parameters of eight steps.
#include "train/step.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>

#include "models/adapter/adapter.h"
#include "models/decoder/golden.h"
#include "models/decoder/load.h"

namespace deepseek::train {
namespace {

using models::Golden;
using models::relative_error;
const std::string kGolden = DEEPSEEK_SOURCE_DIR "/tests/golden";

std::unique_ptr<models::Decoder> load(const std::string& name) {
  auto decoder = models::load_decoder(kGolden + "/models/" + name);
  EXPECT_TRUE(decoder) << (decoder ? "" : decoder.error().message);
  return std::move(*decoder);
}

std::vector<models::TokenizedExample> examples_of(const Golden& golden, int64_t step) {
  const at::Tensor ids = golden.get("ids")[step], from = golden.get("loss_from")[step];
  std::vector<models::TokenizedExample> out(static_cast<size_t>(ids.size(0)));
  for (int64_t i = 0; i < ids.size(0); ++i) {
    for (int64_t t = 0; t < ids.size(1); ++t) {
      out[i].tokens.push_back(ids[i][t].item<int32_t>());
      out[i].counts.push_back(t >= from[i].item<int64_t>() && t > 0 ? 1 : 0);
    }
  }
  return out;
}

Batch pointers(const std::vector<models::TokenizedExample>& examples) {
  Batch batch;
  for (const auto& example : examples) batch.push_back(&example);
  return batch;
}

class AgainstPeft : public ::testing::TestWithParam<std::tuple<const char*, bool, int64_t>> {};

TEST_P(AgainstPeft, EightStepsGiveTheSameLossesNormsAndParameters) {
  const auto& [name, checkpoint, micro_batch_tokens] = GetParam();
  const auto decoder = load(name);
  const std::string directory = kGolden + "/adapters/train-" + name;
  ASSERT_TRUE(models::read_adapter(*decoder, directory));
  const Golden golden(directory + "/training.safetensors");
  AdamW optimizer(trainable_parameters(*decoder), {});
  for (int64_t step = 0; step < 8; ++step) {
    const auto examples = examples_of(golden, step);
    const StepResult result = train_step(*decoder, optimizer, pointers(examples), 1e-3,
                                         {.micro_batch_tokens = micro_batch_tokens, .checkpoint = checkpoint}, {});
    EXPECT_NEAR(result.loss, golden.get("losses")[step].item<double>(), 2e-5) << "step " << step;
    EXPECT_NEAR(result.gradient_norm, golden.get("grad_norms")[step].item<double>(), 1e-3 * result.gradient_norm) << "step " << step;
  }
  for (const auto& [key, tensor] : models::adapter_tensors(*decoder)) {
    const at::Tensor expected = golden.get("final." + key);
    // Adam turns a rounding error in a tiny gradient into a step of the learning rate, so single values may differ by one.
    EXPECT_LT((tensor.detach() - expected).abs().mean().item<double>(), 2e-5) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AgainstPeft,
                         ::testing::Combine(::testing::Values("llama_gqa", "gemma3"), ::testing::Bool(), ::testing::Values(4096, 25)));

TEST(Step, AnExamplesLossDoesNotDependOnItsNeighbours) {
  const auto decoder = load("gemma3");
  const Golden golden(kGolden + "/adapters/train-gemma3/training.safetensors");
  const auto examples = examples_of(golden, 0);
  const auto together = example_losses(*decoder, examples, 4096);
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto alone = example_losses(*decoder, {&examples[i], 1}, 4096);
    EXPECT_EQ(alone[0].counted, together[i].counted);
    EXPECT_NEAR(alone[0].sum, together[i].sum, 1e-5 * alone[0].sum);
  }
}

// Parameters after three steps with dropout, as bits.
std::vector<at::Tensor> trained(uint64_t seed) {
  const auto decoder = load("llama_gqa");
  EXPECT_TRUE(models::attach_adapter(*decoder, {.rank = 4, .dropout = 0.2}, 3));
  AdamW optimizer(trainable_parameters(*decoder), {.weight_decay = 0.01});
  const Golden golden(kGolden + "/adapters/train-llama_gqa/training.safetensors");
  for (int64_t step = 0; step < 3; ++step) {
    const auto examples = examples_of(golden, step);
    (void)train_step(*decoder, optimizer, pointers(examples), 1e-3, {.dropout_seed = seed + static_cast<uint64_t>(step)}, {});
  }
  std::vector<at::Tensor> out;
  for (const auto& [name, tensor] : models::adapter_tensors(*decoder)) out.push_back(tensor.detach().clone());
  return out;
}

TEST(Step, SameSeedSameBits) {
  const auto one = trained(5), two = trained(5), other = trained(6);
  bool differs = false;
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i], two[i]));
    differs = differs || !at::equal(one[i], other[i]);
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace deepseek::train
