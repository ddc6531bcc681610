// One layer's attention over a paged cache: one command a line on standard input, one JSON object a line on standard output.
//   prefill N ATTENTION       a prompt of N tokens, in passes of 2,048
//   decode N ATTENTION STEPS  one query over N - 1 cached tokens, the mean of STEPS
//   check N ATTENTION         the largest difference of a prompt's output from ATTENTION dense, relative to the largest value
// Keys wander as those of neighbours in text do; speed depends on how many are read, not on which.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "program.h"
#include "hardware/team.h"
#include "kernels/paged_attention/paged_attention.h"

namespace {

using namespace deepseek;
using bench::sure;
using Clock = std::chrono::steady_clock;
constexpr int64_t kPass = 2048;  // tokens: the engine's largest

class Bench {
 public:
  Bench(int64_t heads, int64_t kv_heads, int64_t dim, int threads, kernels::KvType type) : heads_(heads), kv_heads_(kv_heads), dim_(dim), team_(threads), type_(type) {}

  nlohmann::json run(const std::string& line) {
    std::istringstream words(line);
    std::string command, attention;
    int64_t n = 0, steps = 16;
    words >> command >> n >> attention >> steps;
    const auto selection = sure(kernels::selection_named(attention));
    fill(n);
    if (command == "prefill") return prefill(n, selection);
    if (command == "decode") return decode(n, selection, steps);
    if (command == "check") return check(n, selection);
    throw std::runtime_error("unknown command " + line);
  }

 private:
  void fill(int64_t n) {
    if (n == length_) return;
    length_ = n;
    pages_.clear();
    pool_ = sure(kernels::KvPool::create(1, kv_heads_, dim_, (n + kernels::kPageTokens - 1) / kernels::kPageTokens, type_, true));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> centre(static_cast<size_t>(kv_heads_ * dim_)), key(static_cast<size_t>(dim_)), value(key.size());
    for (int64_t t = 0; t < n; ++t) {
      if (t % kernels::kPageTokens == 0) pages_.push_back(*pool_.take());
      for (int64_t h = 0; h < kv_heads_; ++h) {
        for (int64_t d = 0; d < dim_; ++d) {
          float& at = centre[static_cast<size_t>(h * dim_ + d)];
          at = 0.98f * at + 0.2f * normal(random);
          key[static_cast<size_t>(d)] = at + 0.4f * normal(random);
          value[static_cast<size_t>(d)] = normal(random);
        }
        pool_.store(0, h, pages_.back(), t % kernels::kPageTokens, key.data(), value.data());
      }
    }
    q_.resize(static_cast<size_t>(n * heads_ * dim_));
    for (auto& x : q_) x = normal(random);
    out_.assign(q_.size(), 0.0f);
  }

  // Positions [begin, begin + count) of the sequence; their queries are rows `begin` on.
  void pass(int64_t begin, int64_t count, const std::optional<kernels::SelectionOptions>& selection) {
    const kernels::AttentionSequence sequence[] = {{std::span(pages_).first(static_cast<size_t>((begin + count + kernels::kPageTokens - 1) / kernels::kPageTokens)), begin, count, 0}};
    const auto selections = selection ? std::span(&*selection, 1) : std::span<const kernels::SelectionOptions>();
    attention_.plan(sequence, pool_, {heads_, 1.0f / std::sqrt(static_cast<float>(dim_)), 0.0f, 0, selections}, team_.size());
    const float* q = q_.data() + begin * heads_ * dim_;
    float* out = out_.data() + begin * heads_ * dim_;
    const auto& kernel = kernels::choose_attention();
    std::vector<kernels::TileCount> counts(static_cast<size_t>(team_.size()));
    team_.run([&](int thread) {
      const auto each = [&](int64_t items, const auto& body) {
        if (items > 0) team_.share(items, 1, [&](int64_t i, int64_t) { body(i); });
      };
      each(attention_.summaries(), [&](int64_t i) { attention_.summarise(i, pool_, 0); });
      each(attention_.estimates(), [&](int64_t i) { attention_.estimate(i, kernel, pool_, 0, q); });
      each(attention_.choices(), [&](int64_t i) { attention_.choose(i); });
      each(attention_.items(), [&](int64_t i) {
        counts[static_cast<size_t>(thread)].add(attention_.run(i, kernel, pool_, 0, q, out));
      });
      each(attention_.merges(), [&](int64_t i) { attention_.merge(i, out); });
    });
    for (const auto& one : counts) count_.add(one);
  }

  nlohmann::json prefill(int64_t n, const std::optional<kernels::SelectionOptions>& selection) {
    count_ = {};
    const auto begin = Clock::now();
    for (int64_t at = 0; at < n; at += kPass) pass(at, std::min(kPass, n - at), selection);
    return answer(begin, 1);
  }

  nlohmann::json decode(int64_t n, const std::optional<kernels::SelectionOptions>& selection, int64_t steps) {
    if (summarised_ != n) {  // in passing, as a prompt would
      for (int64_t at = 0; at < n; at += kPass) pass(at, std::min(kPass, n - at), sure(kernels::selection_named("dsa:top_k=1")));
      summarised_ = n;
    }
    // Not the position that fills a page: that one is summarised once in 64 steps, not in each.
    pass(n - 2, 1, selection);
    count_ = {};
    const auto begin = Clock::now();
    for (int64_t i = 0; i < steps; ++i) pass(n - 2, 1, selection);
    return answer(begin, steps);
  }

  nlohmann::json check(int64_t n, const std::optional<kernels::SelectionOptions>& selection) {
    prefill(n, selection);
    const auto chosen = out_;
    prefill(n, {});
    float difference = 0, size = 0;
    for (size_t i = 0; i < out_.size(); ++i) {
      difference = std::max(difference, std::abs(chosen[i] - out_[i]));
      size = std::max(size, std::abs(out_[i]));
    }
    return {{"difference", difference / size}};
  }

  nlohmann::json answer(Clock::time_point begin, int64_t steps) const {
    return {{"seconds", std::chrono::duration<double>(Clock::now() - begin).count() / static_cast<double>(steps)},
            {"keys_read", count_.share_read()}};
  }

  int64_t heads_, kv_heads_, dim_, length_ = 0, summarised_ = 0;
  hardware::Team team_;
  kernels::KvType type_;
  kernels::KvPool pool_;
  kernels::PagedAttention attention_;
  kernels::TileCount count_;
  std::vector<int32_t> pages_;
  std::vector<float> q_, out_;
};

}  // namespace

int main(int argc, char** argv) {
  int64_t heads = 8, kv_heads = 8, dim = 64;
  int threads = 2;
  std::string kv_cache = "bf16";
  CLI::App app("Runs the commands on standard input");
  app.add_option("--heads", heads)->capture_default_str();
  app.add_option("--kv_heads", kv_heads)->capture_default_str();
  app.add_option("--dim", dim)->capture_default_str();
  app.add_option("--threads", threads)->capture_default_str();
  app.add_option("--kv_cache", kv_cache, "bf16 or int8")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    Bench bench(heads, kv_heads, dim, threads, sure(kernels::kv_type_named(kv_cache)));
    std::cout << nlohmann::json{{"kernel", kernels::choose_attention().name}} << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) std::cout << bench.run(line) << std::endl;
    std::cout << nlohmann::json::object() << std::endl;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
