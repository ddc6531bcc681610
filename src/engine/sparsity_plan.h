// Finds what each layer of a model may leave unread while it still says the same.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/language_model.h"

namespace deepseek::engine {

struct SparsityOptions {
  double min_fidelity = 0.98;  ///< share of positions at which sparse and dense attention find the same token most probable
  int64_t window = 8192;       ///< tokens that are read from their beginning
  bool heads = false;          ///< every head of queries gets its own share: as many steps as heads, not as layers
  std::string dtype = "auto";
  int threads = 0;
  std::function<bool()> stop_requested;
  std::function<void(int64_t passes, const std::string& now)> on_progress;
};

struct SparsityFound {
  struct Layer {
    int64_t layer = 0;
    std::vector<std::string> heads;  ///< "dense" or "dsa:top_p=..."; one where all heads of the layer read alike
  };
  std::vector<Layer> layers;       ///< those without a sliding window
  double agreement = 1, keys_read = 1;  ///< on text that the search did not see; where the text is one window long, on that
  bool held_out = false;
  int64_t tokens = 0;              ///< behind `agreement`
  int64_t passes = 0;              ///< over a window
};

/// Reads the text in windows with dense attention, then with less and less: first one share of attention for all layers, then layer by layer or head by head. Every
/// other window stays unseen for the figure that is returned. Counted are the positions from 2,048 on, where sparse attention begins.
/// Errors: a text or a window that is too short to show anything, as load_fused().
[[nodiscard]] base::Result<SparsityFound> plan_sparsity(const models::ModelText& text, std::span<const int32_t> ids, const SparsityOptions& options = {});

}  // namespace deepseek::engine
