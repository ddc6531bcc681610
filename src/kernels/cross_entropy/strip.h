// Softmax statistics of a few rows of hidden states ("lanes") while their logits go by, some words of the vocabulary at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace deepseek::kernels {

constexpr int64_t kLanes = 128;  // rows that share one selection of words; their f32 logits of 64 words fill L1

/// One lane for each row of hidden states; T is float or uint16_t (bf16). Logits come as [words][stride], a lane each column.
template <typename T>
class Strip {
 public:
  /// `targets` [lanes]: the word of each lane, always selected. softcap 0: none. min_probability 0: nothing is selected.
  /// `bounds` [lanes]: lower bounds of each log(sum(exp)), for a tight selection from the first words on.
  Strip(const int64_t* targets, std::vector<float> bounds, float softcap, float min_probability);

  /// Takes the logits of words [first, first + words); words come in ascending order.
  void take(const T* logits, int64_t stride, int64_t first, int64_t words);

  [[nodiscard]] int64_t lanes() const { return static_cast<int64_t>(targets_.size()); }
  [[nodiscard]] double log_sum_exp(int64_t lane) const;
  [[nodiscard]] float target_logit(int64_t lane) const { return target_logit_[static_cast<size_t>(lane)]; }
  /// Words that may have min_probability in any lane, ascending, and their logits [words][lanes].
  [[nodiscard]] const std::vector<int64_t>& selected() const { return selected_; }
  [[nodiscard]] const std::vector<T>& selected_logits() const { return selected_logits_; }

 private:
  void take_tile(const T* logits, int64_t stride, int64_t first, int64_t words, float* tile);

  std::vector<int64_t> targets_;
  std::vector<std::pair<int64_t, int64_t>> target_order_;  // (word, lane), ascending
  size_t next_target_ = 0;
  std::vector<float> bounds_, target_logit_, best_, thresholds_;
  std::vector<double> sum_;
  float softcap_, log_min_probability_;
  std::vector<int64_t> selected_;
  std::vector<T> selected_logits_;
};

/// What the gradient of one strip needs; [lanes] each.
struct StripGradient {
  std::vector<float> lse, weights;
  std::vector<int64_t> target_rows;  ///< row of the target among the words at hand, negative or beyond them: not there
  float softcap = 0;
};

/// weights * (p - onehot) of words x lanes from their logits: rows [first, first + words) of `logits` and `gradient`, which are
/// [all words][lanes]. Adds each lane's p to mass [lanes].
template <typename T>
void softmax_gradient(const T* logits, int64_t first, int64_t words, const StripGradient& strip, T* gradient, float* mass);

}  // namespace deepseek::kernels
