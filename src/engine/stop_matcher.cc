#include "engine/stop_matcher.h"

#include "base/text.h"

namespace deepseek::engine {

base::Status StopMatcher::validate(const std::vector<std::string>& stops) {
  if (stops.size() > 64) return base::refuse("{} stop strings are too many; use at most 64", stops.size());
  for (const auto& stop : stops) {
    if (stop.empty()) return base::refuse("a stop string is empty");
    if (stop.size() > 1024) return base::refuse("a stop string of {} bytes is too long; use at most 1,024", stop.size());
    if (!base::is_utf8(stop)) return base::refuse("a stop string is not UTF-8");
  }
  return {};
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return "";
  std::string out;
  // Byte by byte, so that the stop string that is complete first wins however the stream was cut.
  for (const char c : text) {
    held_ += c;
    for (const auto& stop : stops_) {
      if (!held_.ends_with(stop)) continue;
      stopped_ = true;
      out += held_.substr(0, held_.size() - stop.size());
      held_.clear();
      return out;
    }
    // The longest end of what is held that may still become a stop string.
    size_t keep = 0;
    for (const auto& stop : stops_) {
      for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
        if (std::string_view(held_).substr(held_.size() - n) == std::string_view(stop).substr(0, n)) {
          keep = n;
          break;
        }
      }
    }
    // A character is never cut.
    while (keep < held_.size() && keep > 0 && (held_[held_.size() - keep] & 0xC0) == 0x80) ++keep;
    out += held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
  }
  return out;
}

std::string StopMatcher::finish() {
  std::string out = stopped_ ? "" : held_;
  held_.clear();
  return out;
}

}  // namespace deepseek::engine
