// The page of a training run: one HTML file that needs nothing else, made from metrics.jsonl.
#pragma once

#include "base/files.h"
#include "base/result.h"

namespace deepseek::train {

/// Reads the lines of `metrics_jsonl` and writes `html`: summary, charts, curriculum, answers before and after, options.
/// Lines that cannot be read (a killed process) are skipped and counted on the page. Fails where no line can be used.
[[nodiscard]] base::Status write_report(const base::fs::path& metrics_jsonl, const base::fs::path& html);

}  // namespace deepseek::train
