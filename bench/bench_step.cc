// Our side of the fine-tuning benchmark: the protocol of finetune_peft.py over the library's own training step.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/process.h"
#include "hardware/memory.h"
#include "models/adapter/adapter.h"
#include "models/decoder/checkpoint.h"
#include "models/decoder/load.h"
#include "train/step.h"

namespace {

using namespace deepseek;

struct Options {
  std::string model, batches, adapter, dtype = "bf16", config;
  int threads = 2;
  int64_t micro_batch_tokens = 4096;
  bool checkpoint = false;
  double learning_rate = 1e-4;
};

std::vector<std::vector<models::TokenizedExample>> read_batches(const std::string& path) {
  auto json = base::parse_json(*base::read_file(path));
  if (!json) throw std::runtime_error(json.error().message);
  std::vector<std::vector<models::TokenizedExample>> batches;
  for (const auto& batch : (*json)["batches"]) {
    auto& examples = batches.emplace_back();
    for (const auto& sequence : batch["sequences"]) {
      models::TokenizedExample example;
      example.tokens = sequence["tokens"].get<std::vector<int32_t>>();
      example.counts.assign(example.tokens.size(), 0);
      for (size_t t = std::max<size_t>(1, sequence["loss_from"].get<size_t>()); t < example.tokens.size(); ++t) example.counts[t] = 1;
      examples.push_back(std::move(example));
    }
  }
  return batches;
}

std::unique_ptr<models::Decoder> load(const Options& options) {
  const models::DecoderLoadOptions load_options{.dtype = options.dtype == "bf16" ? at::kBFloat16 : at::kFloat};
  if (!options.config.empty()) {
    auto config = models::read_decoder_config(options.config);
    if (!config) throw std::runtime_error(config.error().message);
    auto decoder = models::random_decoder(*config, load_options, 1);
    if (auto done = models::attach_adapter(*decoder, {}, 1); !done) throw std::runtime_error(done.error().message);
    return decoder;
  }
  auto decoder = models::load_decoder(options.model, load_options);
  if (!decoder) throw std::runtime_error(decoder.error().message);
  if (options.adapter.empty()) {
    if (auto done = models::attach_adapter(**decoder, {}, 1); !done) throw std::runtime_error(done.error().message);
  } else if (auto done = models::read_adapter(**decoder, options.adapter); !done) {
    throw std::runtime_error(done.error().message);
  }
  return std::move(*decoder);
}

void serve(const Options& options) {
  at::set_num_threads(options.threads);
  const auto batches = read_batches(options.batches);
  const auto decoder = load(options);
  train::AdamW optimizer(train::trainable_parameters(*decoder), {});
  std::cout << "READY" << std::endl;
  int64_t steps = 0, tokens = 0;
  double total = 0;
  for (std::string line; std::getline(std::cin, line) && line == "step"; ++steps) {
    train::Batch batch;
    for (const auto& example : batches.at(static_cast<size_t>(steps) % batches.size())) batch.push_back(&example);
    const auto begin = std::chrono::steady_clock::now();
    const auto result = train::train_step(*decoder, optimizer, batch, options.learning_rate,
                                          {.micro_batch_tokens = options.micro_batch_tokens, .checkpoint = options.checkpoint}, {});
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::cout << nlohmann::json{{"step", steps}, {"loss", result.loss}, {"tokens", result.tokens}, {"seconds", seconds},
                                {"gradient_norm", result.gradient_norm}} << std::endl;
    tokens += result.tokens;
    total += seconds;
  }
  std::cout << nlohmann::json{{"total_steps", steps}, {"total_tokens", tokens}, {"total_seconds", total},
                              {"peak_rss_bytes", hardware::peak_resident_bytes()}} << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  base::restart_with_brief_spin(argv);
  Options options;
  CLI::App app("Trains on the next batch for every line 'step' on standard input");
  app.add_option("--model", options.model, "Hugging Face directory or .gguf");
  app.add_option("--config", options.config, "instead of --model: random weights in the shape of this directory's config.json");
  app.add_option("--batches", options.batches)->required();
  app.add_option("--adapter", options.adapter, "PEFT directory to start from");
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--threads", options.threads);
  app.add_option("--lr", options.learning_rate);
  app.add_option("--micro_batch_tokens", options.micro_batch_tokens);
  app.add_flag("--checkpoint", options.checkpoint);
  CLI11_PARSE(app, argc, argv);
  try {
    serve(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
