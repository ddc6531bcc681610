#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace deepseek::engine {
namespace {

struct Match {
  size_t begin = std::string::npos, end = std::string::npos;
};

// The stop string that is complete first; of those that end together the longest.
Match first_match(const std::string& text, const std::vector<std::string>& stops) {
  Match best;
  for (const std::string& stop : stops) {
    const size_t at = text.find(stop);
    if (at == std::string::npos) continue;
    const Match match{at, at + stop.size()};
    if (match.end < best.end || (match.end == best.end && match.begin < best.begin)) best = match;
  }
  return best;
}

// Length of the longest end of `text` with which a stop string begins.
size_t possible_beginning(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > longest; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = n;
    }
  }
  return longest;
}

}  // namespace

base::Status StopMatcher::validate(const std::vector<std::string>& stops) {
  constexpr size_t kMost = 64, kLongest = 1024;
  if (stops.size() > kMost) return base::refuse("{} stop strings were given; at most {} are possible", stops.size(), kMost);
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) return base::refuse("stop string {} is empty; leave it out", i + 1);
    if (stops[i].size() > kLongest) {
      return base::refuse("stop string {} has {} bytes; at most {} are possible", i + 1, stops[i].size(), kLongest);
    }
    if (!base::is_utf8(stops[i])) return base::refuse("stop string {} is not UTF-8", i + 1);
  }
  return {};
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  std::string shown;
  if (const Match match = first_match(held_, stops_); match.begin != std::string::npos) {
    stopped_ = true;
    shown = held_.substr(0, match.begin);
    held_.clear();
    return shown;
  }
  const size_t free = held_.size() - possible_beginning(held_, stops_);
  shown = held_.substr(0, free);
  held_.erase(0, free);
  return shown;
}

std::string StopMatcher::finish() { return std::exchange(held_, std::string()); }

}  // namespace deepseek::engine
