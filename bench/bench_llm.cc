// Our side of the inference benchmark: one command a line on standard input, one JSON object a line on standard output.
//   prefill N            feeds N tokens to an empty sequence
//   decode CONTEXT N     N greedy steps after CONTEXT tokens
//   batch S CONTEXT N    N greedy steps of S sequences together, each after CONTEXT tokens
//   limits               what the memory gives to a sum over 256 MiB, and the int8 kernel on 96 tokens and weights that stay in the cache
//   continue FILE N      the N greedy tokens after the token ids in a file
//   losses FILE WINDOW   mean loss of a file of token ids (text, one line), windows of WINDOW tokens, each on its own
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "program.h"
#include "engine/fused_model.h"
#include "hardware/huge_memory.h"
#include "hardware/memory.h"
#include "kernels/elementwise/row.h"
#include "models/model.h"

namespace {

using namespace deepseek;
using bench::sure;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

class Bench {
 public:
  explicit Bench(std::unique_ptr<engine::FusedModel> model) : model_(std::move(model)) {}

  // Tokens that no kernel can foresee, the same in every run.
  std::vector<int32_t> tokens(int64_t count, uint64_t seed) const {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      out.push_back(static_cast<int32_t>((seed >> 33) % static_cast<uint64_t>(model_->config().vocab_size - 1000) + 500));
    }
    return out;
  }

  std::vector<int32_t> feed(engine::CachedSequence& sequence, const std::vector<int32_t>& ids) {
    std::span<float> logits;
    for (size_t at = 0; at < ids.size(); at += engine::FusedModel::kMostTokens) {
      const size_t count = std::min<size_t>(ids.size() - at, engine::FusedModel::kMostTokens);
      const engine::SequenceInput input[] = {{&sequence, {ids.data() + at, count}}};
      logits = sure(model_->forward(input));
    }
    return best_of(logits, 1);
  }

  nlohmann::json prefill(int64_t count) {
    engine::CachedSequence sequence;
    const auto ids = tokens(count, 1);
    const auto begin = Clock::now();
    feed(sequence, ids);
    const double seconds = seconds_since(begin);
    model_->truncate(sequence, 0);
    return {{"seconds", seconds}, {"tokens", count}};
  }

  nlohmann::json batch(int64_t sequences, int64_t context, int64_t steps) {
    std::vector<engine::CachedSequence> all(static_cast<size_t>(sequences));
    std::vector<int32_t> last;
    for (size_t s = 0; s < all.size(); ++s) last.push_back(feed(all[s], tokens(context, 7 + s))[0]);
    const auto begin = Clock::now();
    for (int64_t i = 0; i < steps; ++i) {
      std::vector<engine::SequenceInput> inputs;
      for (size_t s = 0; s < all.size(); ++s) inputs.push_back({&all[s], {&last[s], 1}});
      last = best_of(sure(model_->forward(inputs)), sequences);
    }
    const double seconds = seconds_since(begin);
    for (auto& sequence : all) model_->truncate(sequence, 0);
    return {{"seconds", seconds}, {"tokens", sequences * steps}};
  }

  nlohmann::json continue_text(const std::string& file, int64_t steps) {
    engine::CachedSequence sequence;
    std::vector<int32_t> last = feed(sequence, ids_of(file)), out;
    for (int64_t i = 0; i < steps; ++i) {
      out.push_back(last[0]);
      const engine::SequenceInput input[] = {{&sequence, {last.data(), 1}}};
      last = best_of(sure(model_->forward(input)), 1);
    }
    model_->truncate(sequence, 0);
    return {{"ids", out}, {"keys_read", model_->share_of_keys_read()}};
  }

  nlohmann::json losses(const std::string& file, int64_t window) {
    const auto ids = ids_of(file);
    double sum = 0;
    int64_t counted = 0;
    for (size_t begin = 0; begin + 1 < ids.size(); begin += static_cast<size_t>(window)) {
      const size_t end = std::min(ids.size(), begin + static_cast<size_t>(window));
      engine::CachedSequence sequence;
      for (size_t at = begin; at < end; at += engine::FusedModel::kMostTokens) {
        const size_t count = std::min<size_t>(end - at, engine::FusedModel::kMostTokens);
        std::vector<int32_t> targets(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1, ids.begin() + static_cast<std::ptrdiff_t>(std::min(end, at + count + 1)));
        counted += static_cast<int64_t>(targets.size());
        targets.resize(count, -1);
        const engine::SequenceInput input[] = {{&sequence, {ids.data() + at, count}, false, targets}};
        for (const float loss : sure(model_->losses(input))) sum += loss;
      }
      model_->truncate(sequence, 0);
    }
    return {{"loss", sum / static_cast<double>(counted)}, {"tokens", counted}};
  }

  // Best of some passes each: limits, not averages.
  nlohmann::json limits() {
    hardware::Team& team = model_->team();
    constexpr int64_t kWords = int64_t{32} << 20;  // of 8 bytes
    const auto memory = hardware::allocate_huge(static_cast<size_t>(kWords) * 8);
    auto* words = reinterpret_cast<uint64_t*>(memory.get());
    std::fill(words, words + kWords, 1);
    std::atomic<uint64_t> sum{0};
    const double read = best([&](int) {
      team.share(kWords, kWords / 64, [&](int64_t begin, int64_t end) {
        uint64_t parts[8] = {};  // one would be the limit, not the memory
        for (int64_t i = begin; i < end; i += 8) {
          for (int64_t j = 0; j < 8; ++j) parts[j] += words[i + j];
        }
        for (const uint64_t part : parts) sum += part;
      });
    });
    const kernels::PackedMatrix w(kernels::packed_formats::kQ8_0, 512, 640);
    const auto* kernel = sure(kernels::choose_matmul(w.format()));
    constexpr int kTimes = 25, kTokens = 96;  // whole groups of 12 and of 16
    kernels::PackedRows x;
    x.resize(kernels::PackedRows::Kind::kInt8, kTokens, 640, kernel->width);
    std::vector<std::vector<float>> out(static_cast<size_t>(team.size()), std::vector<float>(kTokens * 512));
    std::vector<hardware::HugeMemory> scratch(out.size());
    for (auto& bytes : scratch) bytes = hardware::allocate_huge(static_cast<size_t>(kernels::matmul_scratch_bytes(w)));
    const double multiply = best([&](int thread) {
      const auto own = static_cast<size_t>(thread);
      for (int i = 0; i < kTimes; ++i) kernel->multiply(w, x, 0, w.tiles(), out[own].data(), 512, reinterpret_cast<uint8_t*>(scratch[own].get()));
    });
    return {{"read_gb_per_s", kWords * 8 / read / 1e9}, {"int8_gop_per_s", 2.0 * 512 * 640 * kTokens * kTimes * team.size() / multiply / 1e9}, {"sum", sum.load() > 0}};
  }

  nlohmann::json run(const std::string& line) {
    std::istringstream words(line);
    std::string command, file;
    int64_t a = 0, b = 0, c = 0;
    words >> command;
    if (command == "losses") {
      words >> file >> a;
      return losses(file, a);
    }
    if (command == "continue") {
      words >> file >> a;
      return continue_text(file, a);
    }
    if (command == "limits") return limits();
    words >> a >> b >> c;
    if (command == "prefill") return prefill(a);
    if (command == "decode") return batch(1, a, b);
    if (command == "batch") return batch(a, b, c);
    throw std::runtime_error("unknown command " + line);
  }

 private:
  static std::vector<int32_t> ids_of(const std::string& file) {
    std::ifstream in(file);
    return {std::istream_iterator<int32_t>(in), {}};
  }
  double best(const std::function<void(int)>& body) {
    double seconds = 1e9;
    for (int i = 0; i < 7; ++i) {
      const auto begin = Clock::now();
      model_->team().run(body);
      seconds = std::min(seconds, seconds_since(begin));
    }
    return seconds;
  }
  std::vector<int32_t> best_of(std::span<float> logits, int64_t rows) const {
    std::vector<int32_t> out;
    const int64_t width = static_cast<int64_t>(logits.size()) / rows;
    for (int64_t r = 0; r < rows; ++r) {
      out.push_back(static_cast<int32_t>(kernels::index_of_largest(logits.data() + r * width, width)));
    }
    return out;
  }
  std::unique_ptr<engine::FusedModel> model_;
};

}  // namespace

int main(int argc, char** argv) {
  std::string model, kv_cache = "bf16", attention = "dense";
  int threads = 2;
  int64_t cache_tokens = 16384;
  CLI::App app("Runs the commands on standard input on one model");
  app.add_option("--model", model, "directory or .gguf")->required();
  app.add_option("--threads", threads);
  app.add_option("--cache_tokens", cache_tokens);
  app.add_option("--kv_cache", kv_cache, "bf16 or int8");
  app.add_option("--attention", attention, "dense, dsa, dsa:top_p=0.95 ...");
  CLI11_PARSE(app, argc, argv);
  try {
    const auto begin = Clock::now();
    auto team = std::make_shared<hardware::Team>(threads);
    auto checkpoint = sure(models::DecoderCheckpoint::open(model));
    auto weights = sure(engine::pack_checkpoint(checkpoint, *team));
    const auto bytes = weights.bytes();
    Bench bench(sure(engine::FusedModel::create(std::move(weights), team, {cache_tokens, sure(kernels::kv_type_named(kv_cache)), sure(kernels::selection_named(attention))})));
    std::cout << nlohmann::json{{"load_seconds", seconds_since(begin)}, {"weight_bytes", bytes}} << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) std::cout << bench.run(line) << std::endl;
    std::cout << nlohmann::json{{"peak_rss_bytes", hardware::peak_resident_bytes()}} << std::endl;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
