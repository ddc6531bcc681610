#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

#include "kernels/elementwise/row.h"

namespace deepseek::engine {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

base::Status within_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return {};  // false for NaN too
  return base::refuse("{} is {}; it must lie between {} and {}", name, value, low, high);
}

base::Status check(std::span<const float> logits) {
  bool any = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == -kRemoved) {
      return base::fail("the logit of token {} is {}: the model's weights are damaged or its type overflows; try dtype f32", i, logits[i]);
    }
    any = any || logits[i] != kRemoved;
  }
  if (!any) return base::fail("no token is left to choose from: all {} logits are -infinity", logits.size());
  return {};
}

bool inside(int32_t id, std::span<const float> logits) { return id >= 0 && static_cast<size_t>(id) < logits.size(); }

void penalize(std::span<float> logits, const TokenCounts& seen, const TokenCounts& generated, const SamplingOptions& options) {
  const auto repetition = static_cast<float>(options.repetition_penalty);
  if (repetition != 1.0f) {
    for (const auto& [id, count] : seen) {
      if (!inside(id, logits)) continue;
      float& logit = logits[static_cast<size_t>(id)];
      logit = logit < 0 ? logit * repetition : logit / repetition;
    }
  }
  if (options.presence_penalty == 0 && options.frequency_penalty == 0) return;
  for (const auto& [id, count] : generated) {
    if (!inside(id, logits) || count <= 0) continue;
    logits[static_cast<size_t>(id)] -= static_cast<float>(options.presence_penalty + options.frequency_penalty * count);
  }
}

void keep_top_k(std::span<float> logits, size_t k) {
  std::vector<float> sorted(logits.begin(), logits.end());
  const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  const float threshold = *kth;
  for (float& logit : logits) {
    if (logit < threshold) logit = kRemoved;
  }
}

// A token stays while those above it have less than top_p. Only as many tokens are sorted as that takes.
void keep_top_p(std::span<float> logits, double top_p) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != kRemoved) ids.push_back(static_cast<int32_t>(i));
  }
  const auto at = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  const auto before = [&](int32_t a, int32_t b) { return at(a) != at(b) ? at(a) > at(b) : a > b; };
  const float best = kernels::largest(logits.data(), static_cast<int64_t>(logits.size()));
  const auto weight = [&](int32_t id) { return std::exp(static_cast<double>(at(id)) - best); };
  double total = 0, above = 0;
  for (const int32_t id : ids) total += weight(id);
  size_t kept = 0, sorted = 0, block = 256;
  while (kept < ids.size()) {
    if (kept == sorted) {
      sorted = std::min(ids.size(), sorted + block);
      block *= 4;
      const auto from = ids.begin() + static_cast<std::ptrdiff_t>(kept);
      std::partial_sort(from, ids.begin() + static_cast<std::ptrdiff_t>(sorted), ids.end(), before);
    }
    if (kept > 0 && above >= top_p * total) break;
    above += weight(ids[kept++]);
  }
  for (size_t i = kept; i < ids.size(); ++i) logits[static_cast<size_t>(ids[i])] = kRemoved;
}

void keep_min_p(std::span<float> logits, double min_p) {
  const float best = kernels::largest(logits.data(), static_cast<int64_t>(logits.size()));
  for (float& logit : logits) {
    if (std::exp(static_cast<double>(logit) - best) < min_p) logit = kRemoved;
  }
}

// SplitMix64. Source: Steele, Lea and Flood 2014.
uint64_t next_bits(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

int32_t draw(std::span<const float> logits, double uniform) {
  const float best = kernels::largest(logits.data(), static_cast<int64_t>(logits.size()));
  double total = 0;
  for (const float logit : logits) total += logit == kRemoved ? 0.0 : std::exp(static_cast<double>(logit) - best);
  double left = uniform * total;
  int32_t last = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kRemoved) continue;
    const double weight = std::exp(static_cast<double>(logits[i]) - best);
    if (weight > 0) last = static_cast<int32_t>(i);
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

}  // namespace

base::Status validate(const SamplingOptions& options) {
  if (options.temperature != 0) {
    if (auto ok = within_range("temperature", options.temperature, 1e-4, 100); !ok) {
      ok.error().message += ", or be 0 for greedy choice";
      return ok;
    }
  }
  if (options.top_k < 0) return base::refuse("top_k is {}; it must be 0 (all tokens) or a number of tokens", options.top_k);
  const std::tuple<const char*, double, double, double> ranges[] = {
      {"top_p", options.top_p, 1e-6, 1},
      {"min_p", options.min_p, 0, 1},
      {"repetition_penalty", options.repetition_penalty, 0.01, 100},
      {"presence_penalty", options.presence_penalty, -100, 100},
      {"frequency_penalty", options.frequency_penalty, -100, 100},
  };
  for (const auto& [name, value, low, high] : ranges) {
    if (auto ok = within_range(name, value, low, high); !ok) return ok;
  }
  return {};
}

base::Status process_logits(std::span<float> logits, const TokenCounts& seen, const TokenCounts& generated, const SamplingOptions& options) {
  if (auto ok = validate(options); !ok) return ok;
  if (auto ok = check(logits); !ok) return ok;
  penalize(logits, seen, generated, options);
  if (options.temperature != 0 && options.temperature != 1.0) {
    const auto temperature = static_cast<float>(options.temperature);
    for (float& logit : logits) logit /= temperature;
  }
  if (auto ok = check(logits); !ok) return ok;  // a huge logit may have overflowed
  if (options.temperature == 0) return {};
  if (options.top_k > 0 && static_cast<uint64_t>(options.top_k) < logits.size()) keep_top_k(logits, static_cast<size_t>(options.top_k));
  if (options.top_p < 1) keep_top_p(logits, options.top_p);
  if (options.min_p > 0) keep_min_p(logits, options.min_p);
  return {};
}

Sampler::Sampler(const SamplingOptions& options, std::span<const int32_t> prompt) : options_(options), state_(options.seed) {
  for (const int32_t id : prompt) ++seen_[id];
}

double Sampler::uniform() { return static_cast<double>(next_bits(state_) >> 11) * 0x1p-53; }

base::Result<int32_t> Sampler::next(std::span<float> logits) {
  if (auto ok = process_logits(logits, seen_, generated_, options_); !ok) return base::pass(ok);
  int32_t id = 0;
  if (options_.temperature == 0) {
    id = static_cast<int32_t>(kernels::index_of_largest(logits.data(), static_cast<int64_t>(logits.size())));
  } else {
    id = draw(logits, uniform());
  }
  ++seen_[id];
  ++generated_[id];
  return id;
}

}  // namespace deepseek::engine
