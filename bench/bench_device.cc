// A model by libtorch's operators on a device: the commands of bench_llm.cc that llm_transformers.py answers too.
//   prefill N            feeds N tokens to an empty sequence
//   decode CONTEXT N     N greedy steps after CONTEXT tokens
//   logits N FILE        the logits after each of N tokens, fed in two parts, as f32 to FILE
//   greedy CONTEXT N     the N greedy tokens after CONTEXT tokens
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "program.h"
#include "engine/language_model.h"
#include "models/text.h"

namespace {

using namespace deepseek;
using bench::sure;
using Clock = std::chrono::steady_clock;

int32_t best_of(std::span<const float> logits) { return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()); }

class Bench {
 public:
  explicit Bench(std::unique_ptr<engine::LanguageModel> model, int64_t vocabulary) : model_(std::move(model)), vocabulary_(vocabulary) {}

  nlohmann::json run(const std::string& line) {
    std::istringstream words(line);
    std::string command, file;
    int64_t a = 0, b = 0;
    words >> command >> a;
    if (command == "logits") {
      words >> file;
      return logits(a, file);
    }
    words >> b;
    if (command == "prefill") return prefill(a);
    if (command == "decode" || command == "greedy") return decode(a, b);
    throw std::runtime_error("unknown command " + line);
  }

 private:
  // The same in llm_transformers.py.
  std::vector<int32_t> tokens(int64_t count) const {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>((i * 7919 + 13) % vocabulary_));
    return out;
  }

  // The logits come back to memory, so the device has finished.
  nlohmann::json prefill(int64_t count) {
    auto sequence = model_->new_sequence();
    const auto ids = tokens(count);
    const auto begin = Clock::now();
    sure(sequence->feed(ids));
    return {{"seconds", std::chrono::duration<double>(Clock::now() - begin).count()}, {"tokens", count}};
  }

  nlohmann::json decode(int64_t context, int64_t steps) {
    auto sequence = model_->new_sequence();
    int32_t last = best_of(sure(sequence->feed(tokens(context))));
    std::vector<int32_t> ids;
    const auto begin = Clock::now();
    for (int64_t i = 0; i < steps; ++i) {
      ids.push_back(last);
      last = best_of(sure(sequence->feed({&last, 1})));
    }
    return {{"seconds", std::chrono::duration<double>(Clock::now() - begin).count()}, {"tokens", steps}, {"ids", ids}};
  }

  nlohmann::json logits(int64_t count, const std::string& file) {
    const auto ids = tokens(count);
    auto sequence = model_->new_sequence();
    std::ofstream out(file, std::ios::binary);
    const auto first = static_cast<size_t>(count) / 3;
    for (const auto& part : {std::span(ids).first(first), std::span(ids).subspan(first)}) {
      const auto values = sure(sequence->feed(part, true));
      out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
    }
    if (!out.good()) throw std::runtime_error("cannot write " + file);
    return {{"tokens", count}};
  }

  std::unique_ptr<engine::LanguageModel> model_;
  int64_t vocabulary_;
};

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  engine::LoadOptions options;
  options.device = "cuda";
  CLI::App app("Runs the commands on standard input on one model");
  app.add_option("--model", path, "directory or .gguf")->required();
  app.add_option("--device", options.device)->capture_default_str();
  app.add_option("--dtype", options.dtype)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const auto begin = Clock::now();
    const auto text = sure(models::open_model(path));
    Bench bench(sure(engine::load_plain(text, options)), text.config.vocab_size);
    std::cout << nlohmann::json{{"load_seconds", std::chrono::duration<double>(Clock::now() - begin).count()}} << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) std::cout << bench.run(line) << std::endl;
    std::cout << nlohmann::json::object() << std::endl;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
