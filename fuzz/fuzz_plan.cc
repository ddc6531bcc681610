// Any bytes as a plan.json of a model with 6 layers, of which the last sees everything; what is read chooses for each of its heads.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "models/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deepseek;
  static const std::string kPath = "/dev/shm/fuzz-plan-" + std::to_string(::getpid()) + ".json";
  static const models::DecoderConfig kConfig = [] {
    models::DecoderConfig c;
    c.family = models::DecoderFamily::kGemma3;
    c.num_layers = 6;
    c.hidden_size = 64;
    c.num_heads = 4;
    c.num_kv_heads = 1;
    c.head_dim = 32;
    c.vocab_size = 512;
    c.sliding = {true, true, true, true, true, false};
    return c;
  }();
  std::FILE* file = std::fopen(kPath.c_str(), "wb");
  if (file == nullptr) return 0;
  std::fwrite(data, 1, size, file);
  std::fclose(file);
  const auto plan = models::read_plan(kPath, kConfig);
  ::unlink(kPath.c_str());
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
      if (budget.least > budget.most && budget.most > 1000) std::abort();
    }
  }
  return 0;
}
