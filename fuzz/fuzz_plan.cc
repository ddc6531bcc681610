// Any bytes as a plan.json of a model with 6 layers, of which the last sees everything; what is read chooses for each of its heads.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "input_file.h"
#include "models/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deepseek;
  // The model of make_corpus.py.
  static const models::DecoderConfig kConfig{.family = models::DecoderFamily::kGemma3, .vocab_size = 512, .hidden_size = 64, .num_layers = 6, .num_heads = 4,
                                             .num_kv_heads = 1, .head_dim = 32, .sliding = {true, true, true, true, true, false}};
  const auto plan = fuzz::open_input(data, size, ".json", [](const std::string& path) { return models::read_plan(path, kConfig); });
  if (!plan) return 0;
  const auto sparsity = models::sparsity_of(*plan, kConfig);
  if (!sparsity || !sparsity->has_value()) return 0;
  if ((*sparsity)->size() != 6) std::abort();
  for (size_t layer = 0; layer < 6; ++layer) {
    const auto& heads = (**sparsity)[layer];
    if (layer < 5 ? !heads.empty() : heads.size() > 1 && heads.size() != 4) std::abort();
    for (const auto& options : heads) {
      if (!(options.ratio > 0 && options.ratio <= 1 && options.top_p > 0 && options.top_p <= 1 && options.top_k >= 1)) std::abort();
      const auto budget = kernels::budget_of(options, 1000, 10, 0.25f);
      if (budget.least < 0 || budget.least > 990 || budget.most < 0 || budget.most > 990) std::abort();
    }
  }
  return 0;
}
