// In which direction a feature moves the score, from the points of all rows.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

constexpr size_t kFewest = 8;           // points, to say anything
constexpr double kClear = 0.4;          // rank correlation from which a direction is named
constexpr double kSmallCategory = 0.02;  // of the points; smaller ones are left out

// Ranks with ties at their mean.
std::vector<double> ranks(std::span<const double> x) {
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
  std::vector<double> result(x.size());
  for (size_t i = 0, j = 0; i < order.size(); i = j) {
    while (j < order.size() && x[order[j]] == x[order[i]]) ++j;
    for (size_t k = i; k < j; ++k) result[order[k]] = 0.5 * static_cast<double>(i + j - 1);
  }
  return result;
}

double rank_correlation(std::span<const double> x, std::span<const double> y) {
  const std::vector<double> a = ranks(x), b = ranks(y);
  const double mean = 0.5 * static_cast<double>(x.size() - 1);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean) * (b[i] - mean);
    aa += (a[i] - mean) * (a[i] - mean);
    bb += (b[i] - mean) * (b[i] - mean);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

struct Direction {
  enum class Kind { kUnknown, kRaises, kLowers, kMixed, kCategories } kind = Kind::kUnknown;
  std::pair<double, std::string> highest, lowest;  // mean value and name, of kCategories
};

using Categories = std::map<std::string, std::pair<double, size_t>>;  // sum of values, count

Direction of_categories(const Categories& categories, size_t count) {
  std::vector<std::pair<double, std::string>> means;
  for (const auto& [name, category] : categories) {
    if (category.second >= std::max(3.0, kSmallCategory * static_cast<double>(count))) means.emplace_back(category.first / static_cast<double>(category.second), name);
  }
  if (means.size() < 2) return {};
  const auto [lowest, highest] = std::minmax_element(means.begin(), means.end());
  return {Direction::Kind::kCategories, *highest, *lowest};
}

Direction direction_of(const ShownRows& rows, int node) {
  std::vector<double> inputs, values;
  Categories categories;
  size_t texts = 0;
  for (const ShownPoint& point : rows.points) {
    const auto& input = point.inputs[node];
    if (input.is_number()) {
      inputs.push_back(input.get<double>());
      values.push_back(point.values[node]);
    } else if (input.is_string()) {
      auto& [sum, count] = categories[input.get<std::string>()];
      sum += point.values[node];
      ++count;
      ++texts;
    }
  }
  if (inputs.size() < texts) return texts < kFewest ? Direction{} : of_categories(categories, texts);
  if (inputs.size() < kFewest) return {};
  const double r = rank_correlation(inputs, values);
  if (r == 0) return {};
  return {r > kClear ? Direction::Kind::kRaises : r < -kClear ? Direction::Kind::kLowers : Direction::Kind::kMixed};
}

std::string category_name(const std::string& name) { return fitted(harmless(name), 24); }

}  // namespace

std::string Teller::direction(int node) const {
  const Direction direction = direction_of(*document.global, node);
  const auto& [highest, lowest] = std::pair(direction.highest, direction.lowest);
  switch (direction.kind) {
    case Direction::Kind::kUnknown: return "";
    case Direction::Kind::kRaises: return say("high raises", "值高则拉高");
    case Direction::Kind::kLowers: return say("high lowers", "值高则拉低");
    case Direction::Kind::kMixed: return say("no single direction", "方向不单一");
    case Direction::Kind::kCategories: break;
  }
  return say("{} {}, {} {}", "{} {}，{} {}", category_name(highest.second), mean_figures.with_sign(highest.first), category_name(lowest.second),
      mean_figures.with_sign(lowest.first));
}

std::string Teller::direction_sentence(int node) const {
  const Direction direction = direction_of(*document.global, node);
  const std::string name = fitted(harmless(document.nodes[node].name), 40);
  const auto& [highest, lowest] = std::pair(direction.highest, direction.lowest);
  switch (direction.kind) {
    case Direction::Kind::kUnknown: return "";
    case Direction::Kind::kRaises: return say("A high {} raises the score.", "{} 越高，得分越高。", name);
    case Direction::Kind::kLowers: return say("A high {} lowers the score.", "{} 越高，得分越低。", name);
    case Direction::Kind::kMixed: return say("{} moves the score in no single direction.", "{} 对得分的影响方向不单一。", name);
    case Direction::Kind::kCategories: break;
  }
  return say("The value of {} is highest for {} ({}) and lowest for {} ({}).", "{} 的归因值在“{}”时最高（{}），在“{}”时最低（{}）。", name, category_name(highest.second),
      mean_figures.with_sign(highest.first),
             category_name(lowest.second), mean_figures.with_sign(lowest.first));
}

}  // namespace deepseek::explain
