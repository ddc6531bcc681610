#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace deepseek::engine {
namespace {

using base::refuse;
constexpr float kNever = -std::numeric_limits<float>::infinity();

base::Status check_logits(std::span<const float> logits) {
  bool any = false;
  for (const float logit : logits) {
    if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity()) {
      return base::fail("the model's output is no number: its weights or its adapter are broken for this type, try --dtype f32");
    }
    any = any || logit != kNever;
  }
  if (!any) return base::fail("every token was ruled out; loosen the sampling options");
  return {};
}

void keep_top_k(std::span<float> logits, int64_t top_k) {
  if (top_k <= 0 || top_k >= static_cast<int64_t>(logits.size())) return;
  std::vector<float> copy(logits.begin(), logits.end());
  std::nth_element(copy.begin(), copy.begin() + (top_k - 1), copy.end(), std::greater<>());
  const float least = copy[static_cast<size_t>(top_k - 1)];
  for (float& logit : logits) logit = logit < least ? kNever : logit;
}

// Ids that are still possible, with their probabilities.
struct Possible {
  std::vector<int32_t> ids;
  std::vector<double> probabilities;
};

Possible possible(std::span<const float> logits) {
  Possible out;
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kNever) continue;
    out.ids.push_back(static_cast<int32_t>(i));
    out.probabilities.push_back(std::exp(static_cast<double>(logits[i]) - best));
    sum += out.probabilities.back();
  }
  for (double& p : out.probabilities) p /= sum;
  return out;
}

// From the least probable up, tokens go while their sum is at most 1 - top_p.
void keep_top_p(std::span<float> logits, double top_p) {
  if (top_p >= 1.0) return;
  const Possible all = possible(logits);
  std::vector<size_t> order(all.ids.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[static_cast<size_t>(all.ids[a])] < logits[static_cast<size_t>(all.ids[b])]; });
  double sum = 0;
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    sum += all.probabilities[order[i]];
    if (sum > 1.0 - top_p) break;
    logits[static_cast<size_t>(all.ids[order[i]])] = kNever;
  }
}

void keep_min_p(std::span<float> logits, double min_p) {
  if (min_p <= 0) return;
  const float best = *std::max_element(logits.begin(), logits.end());
  const double least = static_cast<double>(best) + std::log(min_p);
  for (float& logit : logits) logit = static_cast<double>(logit) < least ? kNever : logit;
}

void penalize(std::span<float> logits, const TokenCounts& seen, const TokenCounts& generated, const SamplingOptions& options) {
  const auto inside = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits.size(); };
  if (options.repetition_penalty != 1.0) {
    for (const auto& [id, count] : seen) {
      if (!inside(id)) continue;
      float& logit = logits[static_cast<size_t>(id)];
      logit = static_cast<float>(logit < 0 ? logit * options.repetition_penalty : logit / options.repetition_penalty);
    }
  }
  if (options.presence_penalty == 0 && options.frequency_penalty == 0) return;
  for (const auto& [id, count] : generated) {
    if (inside(id)) logits[static_cast<size_t>(id)] -= static_cast<float>(options.presence_penalty + options.frequency_penalty * count);
  }
}

}  // namespace

base::Status validate(const SamplingOptions& o) {
  if (!(o.temperature >= 0 && o.temperature <= 100)) return refuse("temperature is {}; it must be 0 (greedy) to 100", o.temperature);
  if (o.top_k < 0) return refuse("top_k is {}; it must be 0 (all) or more", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) return refuse("top_p is {}; it must be above 0 and at most 1", o.top_p);
  if (!(o.min_p >= 0 && o.min_p <= 1)) return refuse("min_p is {}; it must be 0 to 1", o.min_p);
  if (!(o.repetition_penalty > 0 && o.repetition_penalty <= 100)) return refuse("repetition_penalty is {}; it must be above 0 and at most 100", o.repetition_penalty);
  if (!(std::abs(o.presence_penalty) <= 100)) return refuse("presence_penalty is {}; it must be -100 to 100", o.presence_penalty);
  if (!(std::abs(o.frequency_penalty) <= 100)) return refuse("frequency_penalty is {}; it must be -100 to 100", o.frequency_penalty);
  return {};
}

base::Status process_logits(std::span<float> logits, const TokenCounts& seen, const TokenCounts& generated, const SamplingOptions& options) {
  if (auto sound = check_logits(logits); !sound) return sound;
  penalize(logits, seen, generated, options);
  if (options.temperature == 0) return {};
  for (float& logit : logits) logit = static_cast<float>(logit / options.temperature);
  keep_top_k(logits, options.top_k);
  keep_top_p(logits, options.top_p);
  keep_min_p(logits, options.min_p);
  return {};
}

Sampler::Sampler(const SamplingOptions& options, std::span<const int32_t> prompt) : options_(options), state_(options.seed) {
  for (const int32_t id : prompt) ++seen_[id];
}

base::Result<int32_t> Sampler::next(std::span<float> logits) {
  if (auto done = process_logits(logits, seen_, generated_, options_); !done) return base::pass(done);
  int32_t chosen = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options_.temperature > 0) {
    const Possible all = possible(logits);
    double left = uniform();
    for (size_t i = 0; i < all.ids.size(); ++i) {
      if (all.probabilities[i] > 0) chosen = all.ids[i];
      left -= all.probabilities[i];
      if (left < 0) break;
    }
  }
  ++seen_[chosen];
  ++generated_[chosen];
  return chosen;
}

// SplitMix64: the same on every machine.
double Sampler::uniform() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

}  // namespace deepseek::engine
