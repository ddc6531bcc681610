#include "kernels/cross_entropy/strip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/elementwise/row.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kTileWords = 64;

// cap * tanh(x / cap), by the exponential that vectorises.
DEEPSEEK_VECTOR_CLONES void soften(float* x, float cap, int64_t n) {
  const float twice = 2.0f / cap;
  for (int64_t i = 0; i < n; ++i) x[i] = cap * (1.0f - 2.0f / (1.0f + fast_exp(x[i] * twice)));
}

DEEPSEEK_VECTOR_CLONES void raise_maximum(const float* tile, int64_t words, int64_t lanes, float* best) {
  for (int64_t w = 0; w < words; ++w) {
    for (int64_t l = 0; l < lanes; ++l) best[l] = tile[w * kLanes + l] > best[l] ? tile[w * kLanes + l] : best[l];
  }
}

DEEPSEEK_VECTOR_CLONES void add_exponentials(const float* tile, int64_t words, int64_t lanes, const float* best, float* sum) {
  for (int64_t w = 0; w < words; ++w) {
    for (int64_t l = 0; l < lanes; ++l) sum[l] += fast_exp(tile[w * kLanes + l] - best[l]);
  }
}

DEEPSEEK_VECTOR_CLONES bool any_above(const float* row, const float* thresholds, int64_t lanes) {
  int32_t above = 0;
  for (int64_t l = 0; l < lanes; ++l) above |= row[l] > thresholds[l] ? 1 : 0;
  return above != 0;
}

DEEPSEEK_VECTOR_CLONES void weighted_softmax(float* x, int64_t lanes, const float* lse, const float* weights, float slope_cap, float* mass) {
  for (int64_t l = 0; l < lanes; ++l) {
    const float p = fast_exp(x[l] - lse[l]), by_cap = x[l] * slope_cap;
    mass[l] += p;
    x[l] = p * weights[l] * (1.0f - by_cap * by_cap);
  }
}

}  // namespace

template <typename T>
Strip<T>::Strip(const int64_t* targets, std::vector<float> bounds, float softcap, float min_probability)
    : targets_(targets, targets + bounds.size()), bounds_(std::move(bounds)), target_logit_(bounds_.size()),
      best_(bounds_.size(), std::numeric_limits<float>::lowest()), thresholds_(bounds_.size()), sum_(bounds_.size()), softcap_(softcap),
      log_min_probability_(min_probability > 0 ? std::log(min_probability) : std::numeric_limits<float>::infinity()) {
  for (size_t lane = 0; lane < targets_.size(); ++lane) target_order_.emplace_back(targets_[lane], static_cast<int64_t>(lane));
  std::sort(target_order_.begin(), target_order_.end());
}

template <typename T>
void Strip<T>::take(const T* logits, int64_t stride, int64_t first, int64_t words) {
  alignas(64) float tile[kTileWords * kLanes];
  for (int64_t w = 0; w < words; w += kTileWords) {
    take_tile(logits + w * stride, stride, first + w, std::min(kTileWords, words - w), tile);
  }
}

template <typename T>
void Strip<T>::take_tile(const T* logits, int64_t stride, int64_t first, int64_t words, float* tile) {
  const int64_t n = lanes();
  for (int64_t w = 0; w < words; ++w) {
    load_row(logits + w * stride, tile + w * kLanes, n);
    if (softcap_ > 0) soften(tile + w * kLanes, softcap_, n);
  }
  float before[kLanes], part[kLanes] = {};
  std::copy(best_.begin(), best_.end(), before);
  raise_maximum(tile, words, n, best_.data());
  add_exponentials(tile, words, n, best_.data(), part);
  for (int64_t l = 0; l < n; ++l) sum_[l] = sum_[l] * fast_exp(before[l] - best_[l]) + part[l];
  const bool selects = log_min_probability_ < std::numeric_limits<float>::infinity();
  for (int64_t l = 0; selects && l < n; ++l) {
    thresholds_[l] = std::max(bounds_[l], best_[l] + std::log(static_cast<float>(sum_[l]))) + log_min_probability_;
  }
  for (int64_t w = 0; w < words; ++w) {
    bool is_target = false;
    for (; next_target_ < target_order_.size() && target_order_[next_target_].first == first + w; ++next_target_) {
      const int64_t lane = target_order_[next_target_].second;
      target_logit_[lane] = tile[w * kLanes + lane];
      is_target = true;
    }
    if (!selects || !(is_target || any_above(tile + w * kLanes, thresholds_.data(), n))) continue;
    selected_.push_back(first + w);
    selected_logits_.insert(selected_logits_.end(), logits + w * stride, logits + w * stride + n);
  }
}

template <typename T>
double Strip<T>::log_sum_exp(int64_t lane) const {
  return best_[static_cast<size_t>(lane)] + std::log(sum_[static_cast<size_t>(lane)]);
}

template <typename T>
void softmax_gradient(const T* logits, int64_t first, int64_t words, const StripGradient& strip, T* gradient, float* mass) {
  const auto lanes = static_cast<int64_t>(strip.lse.size());
  const float slope_cap = strip.softcap > 0 ? 1.0f / strip.softcap : 0.0f;
  float row[kLanes];
  for (int64_t w = first; w < first + words; ++w) {
    load_row(logits + w * lanes, row, lanes);
    if (strip.softcap > 0) soften(row, strip.softcap, lanes);
    weighted_softmax(row, lanes, strip.lse.data(), strip.weights.data(), slope_cap, mass);
    store_row(row, gradient + w * lanes, lanes);
  }
  for (int64_t l = 0; l < lanes; ++l) {
    const int64_t w = strip.target_rows[l];
    if (w < first || w >= first + words) continue;
    // Written anew: p - 1 has bits that the rounded p has lost.
    float logit = 0;
    load_row(logits + w * lanes + l, &logit, 1);
    if (strip.softcap > 0) soften(&logit, strip.softcap, 1);
    const float by_cap = logit * slope_cap;
    const float value = (fast_exp(logit - strip.lse[l]) - 1.0f) * strip.weights[l] * (1.0f - by_cap * by_cap);
    store_row(&value, gradient + w * lanes + l, 1);
  }
}

template class Strip<float>;
template class Strip<uint16_t>;
template void softmax_gradient(const float*, int64_t, int64_t, const StripGradient&, float*, float*);
template void softmax_gradient(const uint16_t*, int64_t, int64_t, const StripGradient&, uint16_t*, float*);

}  // namespace deepseek::kernels
