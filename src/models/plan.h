// plan.json: what was decided about a model once, beside it, for every command that runs it. One section for each kind of decision.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "kernels/sparse_attention/selection.h"
#include "models/decoder/config.h"

namespace deepseek::models {

/// plan.json in a model's directory, or in that of its .gguf.
[[nodiscard]] base::fs::path plan_path(const base::fs::path& model);

/// A plan for this model. Errors: a file that cannot be read or is no plan, another version, one that was made for another model.
[[nodiscard]] base::Result<nlohmann::ordered_json> read_plan(const base::fs::path& file, const DecoderConfig& config);

/// Whether write_plan_section() could write there, before long work: a folder, and no file that is no plan.
[[nodiscard]] base::Status check_plan_place(const base::fs::path& file);

/// Puts a section into the plan at `file` and leaves the others as they are; a missing file begins anew, and so does one that was made for another
/// model. Errors: as read_plan() for a file that is no plan, a full disk.
[[nodiscard]] base::Status write_plan_section(const base::fs::path& file, const DecoderConfig& config, const std::string& name, const nlohmann::ordered_json& section);

/// What each layer reads, from section "sparsity": {"layers": {"5": "dsa:top_p=0.9", "11": ["dense", "dsa", ...]}}, the second with one for each head of
/// queries; layers that are not named read all. Nothing where the plan has no such section. Errors: a layer that the model does not have or that
/// slides, another number of heads, an attention that does not exist.
[[nodiscard]] base::Result<std::optional<std::vector<kernels::HeadSelections>>> sparsity_of(const nlohmann::ordered_json& plan, const DecoderConfig& config);

}  // namespace deepseek::models
