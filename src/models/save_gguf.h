// A decoder as one GGUF. Private to this folder.
#pragma once

#include "models/model.h"

namespace deepseek::models {

/// As save_tensors(). Where the model was a GGUF, its metadata is kept as it is; else it is made from configuration and tokenizer.
[[nodiscard]] base::Status save_gguf(const ModelText& text, const std::vector<ReadyTensor>& tensors, const base::fs::path& path);

}  // namespace deepseek::models
