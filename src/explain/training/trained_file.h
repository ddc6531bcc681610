// The directory that a trained model lies in. Private to this folder.
#pragma once

#include "explain/training/train_table.h"

namespace deepseek::explain {

[[nodiscard]] const char* learner_name(Learner learner);

/// model.json goes first and comes back last: where it stands, the model beside it is its own.
[[nodiscard]] base::Status write_trained(const FittedTable& fitted, Learner learner, const base::fs::path& directory);

}  // namespace deepseek::explain
