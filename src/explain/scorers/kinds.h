// The kinds of models that open_table_model() knows, one file each. Errors do not name the model: their caller does.
#pragma once

#include <string>
#include <string_view>

#include "base/files.h"
#include "base/result.h"
#include "explain/scorers/columns.h"

namespace deepseek::explain {

[[nodiscard]] base::Result<TableModel> open_trees(const base::fs::path& path, const KnownColumns& known);

/// {"weights": [w, ...] or [[w, ...], ...], "offset": b or [b, ...], "features": ["age", {"name": "job", "categories": [...]}], "outputs": [names], "link": "identity",
/// "logistic", "softmax" or "exponential", "target": "income"}; all but weights may be absent.
[[nodiscard]] base::Result<TableModel> open_linear(const base::fs::path& path, const KnownColumns& known);

[[nodiscard]] base::Result<TableModel> open_command(const std::string& command, const ScorerOptions& options, const KnownColumns& known);

[[nodiscard]] base::Result<TableModel> open_http(const std::string& url, const ScorerOptions& options, const KnownColumns& known);
/// The address as messages show it: without a password.
[[nodiscard]] std::string shown_url(std::string url);

/// A net with one input [batch, features] f32; of its outputs the one named "probabilities" or "scores", else the last of two dimensions.
[[nodiscard]] base::Result<TableModel> open_onnx(const base::fs::path& path, const ScorerOptions& options, const KnownColumns& known);

/// A module whose forward() takes [batch, features] f32 (f64 where its parameters are) and gives [batch] or [batch, outputs]; the gradient is autograd's.
[[nodiscard]] base::Result<TableModel> open_torchscript(const base::fs::path& path, const ScorerOptions& options, const KnownColumns& known);

}  // namespace deepseek::explain
