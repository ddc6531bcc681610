// Where models lie on this machine.
#pragma once

#include <string>

#include "models/hub/hub.h"

namespace deepseek::models {

/// $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
[[nodiscard]] base::fs::path hub_cache();
/// $HF_TOKEN, $HUGGING_FACE_HUB_TOKEN, or the token file that `huggingface-cli login` writes; "" where there is none.
[[nodiscard]] std::string hub_token();
/// "models--owner--name".
[[nodiscard]] std::string cache_name(const std::string& repository);
/// True for "owner/name" made of letters, digits, '.', '-' and '_'.
[[nodiscard]] bool is_repository(const std::string& text);
/// The snapshot of a repository in the cache that has a configuration and weights; empty where there is none.
[[nodiscard]] base::fs::path cached_snapshot(const base::fs::path& cache, const std::string& repository);

}  // namespace deepseek::models
