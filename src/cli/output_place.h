// Where a command writes a model: a directory or a file, left as it was where the work fails.
#pragma once

#include <cstdint>
#include <string>

#include "base/files.h"
#include "base/result.h"

namespace deepseek::cli {

class OutputPlace {
 public:
  /// Errors: something is there already and `overwrite` was not asked for; a file where a directory is meant, or the other way.
  [[nodiscard]] static base::Result<OutputPlace> open(const std::string& output, bool overwrite);
  /// Errors: less room than that on the disk.
  [[nodiscard]] base::Status needs(uint64_t bytes) const;
  /// Removes what was begun where nothing was before.
  void restore() const;

 private:
  base::fs::path path_;
  bool existed_ = false, empty_ = true;
};

}  // namespace deepseek::cli
