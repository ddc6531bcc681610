// Finds stop strings in a stream of text and lets through everything before them, and nothing of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::engine {

/// The stop string that is complete first ends the text; how the stream is cut into pieces makes no difference.
class StopMatcher {
 public:
  /// Errors: an empty or ill-formed string, more than 64 of them, or one longer than 1 KiB.
  [[nodiscard]] static base::Status validate(const std::vector<std::string>& stops);
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// Text that can be shown now. What may be the beginning of a stop string is held back.
  [[nodiscard]] std::string push(std::string_view text);
  /// What was held back, at the end of the stream; "" after a stop string.
  [[nodiscard]] std::string finish();
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace deepseek::engine
