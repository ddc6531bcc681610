// metrics.jsonl: one JSON object a line, written as it happens; report/ draws it.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace deepseek::train {

class Metrics {
 public:
  /// Starts the file anew, or, with a step to resume from, keeps the lines up to that step.
  [[nodiscard]] static base::Result<Metrics> open(const base::fs::path& path, std::optional<int64_t> resume_step);
  /// Goes on at the end of a file that is there.
  [[nodiscard]] static base::Result<Metrics> append(const base::fs::path& path);
  [[nodiscard]] base::Status write(const nlohmann::ordered_json& line);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  base::fs::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace deepseek::train
