// Logits of a model with an adapter, for comparison with PEFT: reads JSON lists of token ids from standard input, one a line,
// and writes f32 logits [n, vocab] of each, one after the other, to --out.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>

#include "base/json.h"
#include "models/adapter/adapter.h"
#include "models/decoder/load.h"

int main(int argc, char** argv) {
  using namespace deepseek;
  std::string model, adapter, out, copy;
  bool merged = false;
  CLI::App app("Logits of a model with an adapter");
  app.add_option("--model", model)->required();
  app.add_option("--adapter", adapter)->required();
  app.add_option("--out", out)->required();
  app.add_option("--copy", copy, "also write the adapter as read to this directory");
  app.add_flag("--merged", merged);
  CLI11_PARSE(app, argc, argv);
  const auto end = [](const std::string& message) {
    std::cerr << message << "\n";
    return 1;
  };
  auto decoder = models::load_decoder(model);
  if (!decoder) return end(decoder.error().message);
  auto config = models::read_adapter(**decoder, adapter);
  if (!config) return end(config.error().message);
  if (!copy.empty()) {
    if (auto done = models::write_adapter(**decoder, *config, copy); !done) return end(done.error().message);
  }
  if (merged) models::merge_adapter(**decoder);
  at::NoGradGuard no_grad;
  std::ofstream file(out, std::ios::binary);
  for (std::string line; std::getline(std::cin, line);) {
    const auto json = base::parse_json(line);
    if (!json) return end(json.error().message);
    const auto ids = json->get<std::vector<int32_t>>();
    const at::Tensor logits = (*decoder)->logits((*decoder)->hidden(models::pack_sequences({ids}))).contiguous();
    file.write(static_cast<const char*>(logits.const_data_ptr()), static_cast<std::streamsize>(logits.nbytes()));
  }
  return file.good() ? 0 : end("cannot write " + out);
}
