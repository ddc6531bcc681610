#include "explain/mixed_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/random.h"

namespace deepseek::explain {
namespace {

constexpr size_t kMostKept = size_t{1} << 22;     // different rows; 130 MiB
constexpr size_t kMostWaiting = size_t{1} << 25;  // numbers of rows that wait for their score; 256 MiB

uint64_t bits_for(uint64_t feature, double value, uint64_t which) {
  base::SplitMix64 mix{std::bit_cast<uint64_t>(value) ^ (feature * 0x9E3779B97F4A7C15u + which)};
  mix();
  return mix();
}

}  // namespace

MixedRows::MixedRows(std::span<const double> row, std::span<const double> background)
    : features_(row.size()), count_(background.size() / row.size()), row_(row.begin(), row.end()), background_(background.begin(), background.end()), whole_(count_), change_(features_ * count_),
      mixed_(count_) {
  for (size_t j = 0; j < features_; ++j) {
    const Key mine{bits_for(j, row_[j], 1), bits_for(j, row_[j], 2)};
    for (size_t b = 0; b < count_; ++b) {
      const double x = background_[b * features_ + j];
      const Key its{bits_for(j, x, 1), bits_for(j, x, 2)};
      whole_[b].first += its.first;
      whole_[b].second += its.second;
      change_[j * count_ + b] = {mine.first - its.first, mine.second - its.second};
    }
  }
}

void MixedRows::mix_keys(const uint8_t* known) {
  mixed_ = whole_;
  for (size_t j = 0; j < features_; ++j) {
    if (known[j] == 0) continue;
    const Key* change = change_.data() + j * count_;
    for (size_t b = 0; b < count_; ++b) {
      mixed_[b].first += change[b].first;
      mixed_[b].second += change[b].second;
    }
  }
}

void MixedRows::grow() {
  std::vector<Slot> before = std::move(table_);
  table_.assign(std::max<size_t>(1024, before.size() * 2), {});
  for (const Slot& slot : before) {
    if (slot.score == kFree) continue;
    size_t at = slot.key.first & (table_.size() - 1);
    while (table_[at].score != kFree) at = (at + 1) & (table_.size() - 1);
    table_[at] = slot;
  }
}

// Of the score of a row; kFree: it is new, and has the next place now.
uint32_t MixedRows::place_of(const Key& key) {
  if (2 * (scores_.size() + 1) > table_.size()) grow();
  size_t at = key.first & (table_.size() - 1);
  for (; table_[at].score != kFree; at = (at + 1) & (table_.size() - 1)) {
    if (table_[at].key == key) return table_[at].score;
  }
  table_[at] = {key, static_cast<uint32_t>(scores_.size())};
  scores_.push_back(0);
  return kFree;
}

base::Status MixedRows::score_new(const Scorer& scorer, int64_t rows_at_a_time) {
  const size_t rows = waiting_.size() / features_, most = static_cast<size_t>(std::max<int64_t>(1, rows_at_a_time));
  size_t to = scores_.size() - rows;
  for (size_t first = 0; first < rows; first += most) {
    const size_t n = std::min(most, rows - first);
    auto scores = scorer(std::span(waiting_).subspan(first * features_, n * features_));
    if (!scores) return base::pass(scores);
    if (scores->size() != n) return base::fail("the model gave {} scores for {} rows", scores->size(), n);
    for (const double score : *scores) {
      if (!std::isfinite(score)) return base::fail("the model gave a score that is no number; it is asked for rows that mix the sample with the background");
      scores_[to++] = score;
    }
    rows_scored_ += static_cast<int64_t>(n);
  }
  waiting_.clear();
  return {};
}

base::Status MixedRows::mean_scores(const Scorer& scorer, std::span<const uint8_t> coalitions, int64_t rows_at_a_time, std::span<double> worth) {
  const size_t rows = std::min(static_cast<size_t>(std::max<int64_t>(rows_at_a_time, 1)) * 4, kMostWaiting / features_);
  const size_t at_a_time = std::max<size_t>(1, rows / count_);
  std::vector<uint32_t> places;
  for (size_t first = 0; first < worth.size(); first += at_a_time) {
    const size_t last = std::min(worth.size(), first + at_a_time);
    if (scores_.size() > kMostKept) {
      table_.clear();
      scores_.clear();
    }
    places.clear();
    for (size_t i = first; i < last; ++i) {
      const uint8_t* known = coalitions.data() + i * features_;
      mix_keys(known);
      for (size_t b = 0; b < count_; ++b) {
        uint32_t place = place_of(mixed_[b]);
        if (place == kFree) {
          place = static_cast<uint32_t>(scores_.size() - 1);
          for (size_t j = 0; j < features_; ++j) waiting_.push_back(known[j] != 0 ? row_[j] : background_[b * features_ + j]);
        }
        places.push_back(place);
      }
    }
    if (base::Status ok = score_new(scorer, rows_at_a_time); !ok) {
      table_.clear();  // places without a score
      scores_.clear();
      waiting_.clear();
      return ok;
    }
    for (size_t i = first; i < last; ++i) {
      double sum = 0;
      for (size_t b = 0; b < count_; ++b) sum += scores_[places[(i - first) * count_ + b]];
      worth[i] = sum / static_cast<double>(count_);
    }
  }
  return {};
}

}  // namespace deepseek::explain
