// Scores that outlive a process, so that an explanation that was cut short goes on where it stopped.
#pragma once

#include <cstdint>

#include "base/files.h"
#include "base/result.h"
#include "explain/table_model.h"

namespace deepseek::explain {

/// The model, asked only for rows that `file` does not hold yet: what it answers is appended batch by batch. Rows are known by a hash of their bits, 128 wide.
/// identity: what the scores depend on besides the rows (the model's name, size and time of its file, its features); a file of another identity is refused.
/// A file whose end was cut off by a kill is read up to there. Fails where the file cannot be written; a write that fails later keeps the scores in memory and
/// ends the run.
[[nodiscard]] base::Result<TableModel> remember_scores(TableModel model, const base::fs::path& file, const std::string& identity);

}  // namespace deepseek::explain
