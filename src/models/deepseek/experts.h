// The feed-forward half of a DeepSeek layer. Private to this folder.
#pragma once

#include "models/deepseek/deepseek.h"

namespace deepseek::models {

/// x: [T, hidden] -> the same: silu(gate x) * (up x) through down.
at::Tensor feed_forward(const FeedForward& w, const at::Tensor& x);
/// x: [T, hidden] -> what the chosen experts of each token add up to.
at::Tensor mixture(const DeepseekConfig& config, const DeepseekExperts& w, const at::Tensor& x);

}  // namespace deepseek::models
