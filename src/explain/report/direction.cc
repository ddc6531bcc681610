// In which direction a feature moves the score, from the points of all rows.
#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

constexpr size_t kFewest = 8;           // points, to say anything
constexpr double kClear = 0.3;          // agreement from which a direction is named: about 0.4 of rank correlation
constexpr size_t kMostCompared = 500;    // points, each with each
constexpr double kSmallCategory = 0.02;  // of the points; smaller ones are left out

// Somers' D: of two points whose inputs differ, how much more often the greater input has the greater value than the smaller one. A correlation of ranks would
// drown in what moves points of the same input apart, as of a capital gain that is 0 in nine rows of ten.
double order_agreement(std::span<const double> inputs, std::span<const double> values) {
  const size_t step = (inputs.size() + kMostCompared - 1) / kMostCompared;
  int64_t agreement = 0, pairs = 0;
  for (size_t i = 0; i < inputs.size(); i += step) {
    for (size_t j = 0; j < i; j += step) {
      if (inputs[i] == inputs[j]) continue;
      ++pairs;
      if (values[i] != values[j]) agreement += (inputs[i] > inputs[j]) == (values[i] > values[j]) ? 1 : -1;
    }
  }
  return pairs > 0 ? static_cast<double>(agreement) / static_cast<double>(pairs) : 0;
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
  const double r = order_agreement(inputs, values);
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
    case Direction::Kind::kMixed: return say("mixed", "方向不单一");
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
    case Direction::Kind::kRaises: return say("High values of {} raise the score.", "{} 越高，得分越高。", name);
    case Direction::Kind::kLowers: return say("High values of {} lower the score.", "{} 越高，得分越低。", name);
    case Direction::Kind::kMixed: return say("{} moves the score in no single direction.", "{} 对得分的影响方向不单一。", name);
    case Direction::Kind::kCategories: break;
  }
  return say("The value of {} is highest for {} ({}) and lowest for {} ({}).", "{} 的归因值在“{}”时最高（{}），在“{}”时最低（{}）。", name, category_name(highest.second),
      mean_figures.with_sign(highest.first),
             category_name(lowest.second), mean_figures.with_sign(lowest.first));
}

}  // namespace deepseek::explain
