// Which keys a query reads: the tiles of 16 positions with the largest estimated share of its attention.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::kernels {

/// The tiles around a query and the first tile of all are always read; what is chosen are the others.
struct SelectionOptions {
  enum class Mode { kRatio, kTopK, kTopP };
  Mode mode = Mode::kTopP;
  float ratio = 0.4f;          ///< kRatio: of the keys before a query
  int64_t top_k = 2048;        ///< kTopK: keys
  float top_p = 0.95f;         ///< kTopP: the estimated share of attention that is kept; a diffuse row keeps more keys than a peaked one
  int64_t least = 512;         ///< kTopP: keys, at least
  float most = 1.0f;           ///< kTopP: share of the keys, at most
  int64_t dense_below = 2048;  ///< the first so many positions read all keys before them: choosing costs as much as it saves there
  bool operator==(const SelectionOptions&) const = default;
  /// Reads all keys: for a head beside others that choose.
  [[nodiscard]] static SelectionOptions all() { return {.dense_below = std::numeric_limits<int64_t>::max()}; }
};
/// What the heads of a layer read: nothing where all read all keys, else one for all of them or one for each head of queries.
using HeadSelections = std::vector<SelectionOptions>;
/// Of one choice for all heads, or one for each; nullopt reads all.
[[nodiscard]] HeadSelections head_selections(std::span<const std::optional<SelectionOptions>> heads);
/// "dense" is nothing; "dsa" the defaults; "dsa:ratio=0.4", "dsa:top_k=2048" and "dsa:top_p=0.95" one of the modes. Errors: another text, a
/// number outside its range.
[[nodiscard]] base::Result<std::optional<SelectionOptions>> selection_named(const std::string& text);

/// How many tiles are taken: the largest first, until there are `least` of them that hold `mass`, or `most`.
struct TileBudget {
  int64_t least = 0, most = 0;
  float mass = 0;
};
/// Of `tiles` visible ones of which `always` are read anyway, what is left to choose.
[[nodiscard]] TileBudget budget_of(const SelectionOptions& options, int64_t tiles, int64_t always, float mass_of_always);

/// Kept from call to call, so that nothing is allocated.
class TileSelection {
 public:
  /// Indices of the chosen tiles in ascending order; equal importances go to the lower index. importance: [tiles], at least 0; NaN counts as
  /// the largest.
  std::span<const int32_t> choose(std::span<const float> importance, const TileBudget& budget);

 private:
  std::vector<int32_t> chosen_;
};

/// x[i] = e^(x[i] - max x), divided by their sum. [n] Where some are NaN or infinity, these become 1 and the others 0, so that such keys are
/// read and show.
void softmax_row(float* x, int64_t n);

}  // namespace deepseek::kernels
