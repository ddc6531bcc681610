#include "kernels/sparse_attention/selection.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/paged_attention/kv_pool.h"
#include "kernels/simd.h"

namespace deepseek::kernels {
namespace {

// Importances in buckets of an eighth of a power of two, 2^-63 to 2: only the bucket in which the budget ends must be sorted.
constexpr uint32_t kBuckets = 512, kTopBits = (127 + 1) * 8;
uint16_t bucket_of(float importance) {
  const uint32_t bits = std::bit_cast<uint32_t>(importance) >> 20;
  return static_cast<uint16_t>(std::clamp<uint32_t>(bits, kTopBits - kBuckets + 1, kTopBits) - (kTopBits - kBuckets + 1));
}

DEEPSEEK_VECTOR_CLONES float exponentials(float* x, float largest, int64_t n) {
  float sums[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) sums[j] += x[i + j] = fast_exp(x[i + j] - largest);
  }
  float sum = 0;
  for (; i < n; ++i) sum += x[i] = fast_exp(x[i] - largest);
  for (const float part : sums) sum += part;
  return sum;
}

DEEPSEEK_VECTOR_CLONES void scale(float* x, float by, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= by;
}

// NaN is passed over.
DEEPSEEK_VECTOR_CLONES float largest_of(const float* x, int64_t n) {
  float most[16];
  std::fill_n(most, 16, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
  }
  for (; i < n; ++i) most[0] = x[i] > most[0] ? x[i] : most[0];
  return *std::max_element(most, most + 16);
}

}  // namespace

void softmax_row(float* x, int64_t n) {
  const float sum = exponentials(x, largest_of(x, n), n);
  if (sum > 0) return scale(x, 1.0f / sum, n);
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] != x[i] ? 1.0f : 0.0f;
}

base::Result<std::optional<SelectionOptions>> selection_named(const std::string& text) {
  if (text == "dense") return std::nullopt;
  SelectionOptions options;
  if (text == "dsa") return options;
  const auto refused = [&] { return base::refuse("attention '{}' is unknown; use dense, dsa, dsa:top_p=0.95, dsa:ratio=0.4 or dsa:top_k=2048", text); };
  const size_t colon = text.find(':'), equals = text.find('=');
  if (text.substr(0, colon) != "dsa" || equals == std::string::npos || equals < colon) return refused();
  const std::string mode = text.substr(colon + 1, equals - colon - 1);
  const char *from = text.data() + equals + 1, *end = text.data() + text.size();
  double value = 0;
  if (const auto [stop, error] = std::from_chars(from, end, value); error != std::errc() || stop != end) return refused();
  if (mode == "top_k") {
    if (!(value >= 1 && value <= 1e9 && value == std::floor(value))) return base::refuse("attention '{}': a number of keys is a whole number from 1", text);
    options.mode = SelectionOptions::Mode::kTopK;
    options.top_k = static_cast<int64_t>(value);
    return options;
  }
  if (mode != "ratio" && mode != "top_p") return refused();
  if (!(value > 0 && value <= 1)) return base::refuse("attention '{}': a share lies above 0, up to 1", text);
  options.mode = mode == "ratio" ? SelectionOptions::Mode::kRatio : SelectionOptions::Mode::kTopP;
  (mode == "ratio" ? options.ratio : options.top_p) = static_cast<float>(value);
  return options;
}

HeadSelections head_selections(std::span<const std::optional<SelectionOptions>> heads) {
  HeadSelections out;
  if (std::none_of(heads.begin(), heads.end(), [](const auto& head) { return head.has_value(); })) return out;
  for (const auto& head : heads) out.push_back(head.value_or(SelectionOptions::all()));
  return out;
}

TileBudget budget_of(const SelectionOptions& o, int64_t tiles, int64_t always, float mass_of_always) {
  const int64_t rest = tiles - always;
  const auto count = [&](int64_t wanted) { return std::clamp<int64_t>(wanted - always, 0, rest); };
  const auto share = [&](float ratio) { return static_cast<int64_t>(std::ceil(static_cast<double>(ratio) * static_cast<double>(tiles))); };
  const auto tiles_of = [](int64_t keys) { return (keys + kKeyTile - 1) / kKeyTile; };
  if (o.mode == SelectionOptions::Mode::kTopP) return {count(tiles_of(o.least)), count(share(o.most)), o.top_p - mass_of_always};
  const int64_t fixed = count(o.mode == SelectionOptions::Mode::kRatio ? share(o.ratio) : tiles_of(o.top_k));
  return {fixed, fixed, 0};
}

std::span<const int32_t> TileSelection::choose(std::span<const float> importance, const TileBudget& budget) {
  const size_t n = importance.size();
  if (bucket_.size() < n) {
    const size_t room = std::bit_ceil(n);
    bucket_.resize(room);
    chosen_.resize(room);
    boundary_.resize(room);
  }
  const auto most = static_cast<size_t>(std::clamp<int64_t>(budget.most, 0, static_cast<int64_t>(n)));
  const auto least = std::min(static_cast<size_t>(std::max<int64_t>(budget.least, 0)), most);
  std::array<float, kBuckets> mass{};
  std::array<uint32_t, kBuckets> count{};
  for (size_t i = 0; i < n; ++i) {
    const uint16_t b = bucket_[i] = bucket_of(importance[i]);
    mass[b] += importance[i];
    ++count[b];
  }
  // Whole buckets from the top; `boundary` is the first that may not be taken whole.
  size_t taken = 0;
  float held = 0;
  const auto enough = [&] { return taken >= most || (taken >= least && !(held < budget.mass)); };
  int boundary = kBuckets - 1;
  for (; boundary >= 0; --boundary) {
    const auto b = static_cast<size_t>(boundary);
    if (enough() || taken + count[b] > most || (taken + count[b] >= least && !(held + mass[b] < budget.mass))) break;
    taken += count[b];
    held += mass[b];
  }
  size_t at_boundary = 0;
  if (!enough() && boundary >= 0) {
    for (size_t i = 0; i < n; ++i) {
      if (bucket_[i] == boundary) boundary_[at_boundary++] = static_cast<int32_t>(i);
    }
    const auto members = std::span(boundary_).first(at_boundary);
    std::sort(members.begin(), members.end(), [&](int32_t a, int32_t b) {
      const auto x = std::bit_cast<uint32_t>(importance[static_cast<size_t>(a)]), y = std::bit_cast<uint32_t>(importance[static_cast<size_t>(b)]);
      return x != y ? x > y : a < b;  // the bits of numbers above 0 order as they do, NaN above all
    });
    at_boundary = 0;
    for (; at_boundary < members.size() && !enough(); ++at_boundary, ++taken) held += importance[static_cast<size_t>(members[at_boundary])];
    std::sort(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(at_boundary));
  }
  size_t out = 0, next = 0;
  for (size_t i = 0; i < n; ++i) {
    const bool at_edge = next < at_boundary && boundary_[next] == static_cast<int32_t>(i);
    next += at_edge ? 1 : 0;
    if (at_edge || static_cast<int>(bucket_[i]) > boundary) chosen_[out++] = static_cast<int32_t>(i);
  }
  return std::span(chosen_).first(out);
}

}  // namespace deepseek::kernels
