// A project that uses the installed library: opens a model and continues nothing but its first token.
#include <cstdio>

#include "models/model.h"

int main(int, char** argv) {
  auto model = deepseek::models::load_model(argv[1], {.dtype = "f32"});
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().message.c_str());
    return 1;
  }
  const auto ids = model->tokenizer.encode("hello");
  deepseek::models::KvCache cache;
  const auto logits = model->decoder->step(ids, cache);
  std::printf("%lld parameters, %zu tokens, %lld logits\n", static_cast<long long>(model->config.parameters()), ids.size(), static_cast<long long>(logits.numel()));
  return 0;
}
