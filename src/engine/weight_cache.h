// Packed weights kept in a file, so that a second start only reads.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/files.h"
#include "hardware/huge_memory.h"
#include "hardware/team.h"
#include "kernels/quant_matmul/packed.h"

namespace deepseek::engine {

/// The file for a model: FILE.gguf.packed beside a file, DIRECTORY/weights.packed in a directory, where that can be written; else in the
/// cache directory under a hash of its path.
[[nodiscard]] base::fs::path weight_cache_path(const base::fs::path& model);

/// Stands for the files of a model as they are now: paths, sizes and times of change. A different one makes a cache stale.
[[nodiscard]] uint64_t model_stamp(const base::fs::path& model);

/// The matrices of a cache in the order they were written; their bytes live in `memory`.
struct CachedMatrices {
  std::vector<kernels::PackedMatrix> matrices;
  hardware::HugeMemory memory;
};

/// Nothing where there is no file, or it is of another version, another model or damaged: each is as good as no cache. Reads with all
/// threads, and checks every byte against its checksum (XXH3).
[[nodiscard]] std::optional<CachedMatrices> read_weight_cache(const base::fs::path& file, uint64_t stamp, hardware::Team& team);

/// Writes beside the final name and renames: two processes may do it at once. Errors: a full disk, no permission.
[[nodiscard]] base::Status write_weight_cache(const base::fs::path& file, uint64_t stamp, std::span<const kernels::PackedMatrix* const> matrices);

}  // namespace deepseek::engine
