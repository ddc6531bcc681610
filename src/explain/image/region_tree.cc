// The tree of an image's regions.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <set>
#include <tuple>

#include "explain/image/superpixels.h"

namespace deepseek::explain {
namespace {

// A region, or what was merged of two.
struct Part {
  std::array<double, 3> colour{};  // mean
  double pixels = 0, x = 0, y = 0;  // centre of gravity
  int32_t first = -1, second = -1;  // what it was merged of
  int32_t region = -1;
  std::set<int32_t> neighbours;
};

// The growth of the squared distances where two parts become one.
double cost(const Part& a, const Part& b) {
  double distance = 0;
  for (size_t c = 0; c < 3; ++c) distance += std::pow(a.colour[c] - b.colour[c], 2);
  return a.pixels * b.pixels / (a.pixels + b.pixels) * distance;
}

std::vector<Part> parts_of(const RgbImage& image, const Superpixels& regions) {
  const std::vector<float> lab = lab_of(image);
  std::vector<Part> parts(static_cast<size_t>(regions.count));
  for (int32_t r = 0; r < regions.count; ++r) parts[static_cast<size_t>(r)].region = r;
  for (int64_t y = 0; y < regions.height; ++y) {
    for (int64_t x = 0; x < regions.width; ++x) {
      const auto i = static_cast<size_t>(y * regions.width + x);
      const int32_t label = regions.labels[i];
      Part& part = parts[static_cast<size_t>(label)];
      part.pixels += 1;
      part.x += static_cast<double>(x) + 0.5;
      part.y += static_cast<double>(y) + 0.5;
      for (size_t c = 0; c < 3; ++c) part.colour[c] += lab[3 * i + c];
      const auto touch = [&](int32_t other) {
        if (other == label) return;
        part.neighbours.insert(other);
        parts[static_cast<size_t>(other)].neighbours.insert(label);
      };
      if (x > 0) touch(regions.labels[i - 1]);
      if (y > 0) touch(regions.labels[i - static_cast<size_t>(regions.width)]);
    }
  }
  for (Part& part : parts) {
    for (double& c : part.colour) c /= part.pixels;
    part.x /= part.pixels;
    part.y /= part.pixels;
  }
  return parts;
}

Part merged(const Part& a, const Part& b) {
  Part both{.pixels = a.pixels + b.pixels};
  const auto mean = [&](double of_a, double of_b) { return (a.pixels * of_a + b.pixels * of_b) / both.pixels; };
  for (size_t c = 0; c < 3; ++c) both.colour[c] = mean(a.colour[c], b.colour[c]);
  both.x = mean(a.x, b.x);
  both.y = mean(a.y, b.y);
  std::set_union(a.neighbours.begin(), a.neighbours.end(), b.neighbours.begin(), b.neighbours.end(), std::inserter(both.neighbours, both.neighbours.begin()));
  return both;
}

// Merges neighbours until one part is left, the last.
void merge_all(std::vector<Part>& parts) {
  std::set<std::tuple<double, int32_t, int32_t>> queue;  // rising cost
  const auto propose = [&](int32_t a, int32_t b, bool add) {
    const std::tuple<double, int32_t, int32_t> pair{cost(parts[static_cast<size_t>(a)], parts[static_cast<size_t>(b)]), std::min(a, b), std::max(a, b)};
    if (add) queue.insert(pair);
    else queue.erase(pair);
  };
  for (size_t a = 0; a < parts.size(); ++a) {
    for (const int32_t b : parts[a].neighbours) propose(static_cast<int32_t>(a), b, true);
  }
  while (!queue.empty()) {
    const auto [least, first, second] = *queue.begin();
    const auto together = static_cast<int32_t>(parts.size());
    for (const int32_t old : {first, second}) {
      for (const int32_t other : parts[static_cast<size_t>(old)].neighbours) propose(old, other, false);
      for (const int32_t other : parts[static_cast<size_t>(old)].neighbours) parts[static_cast<size_t>(other)].neighbours.erase(old);
    }
    parts.push_back(merged(parts[static_cast<size_t>(first)], parts[static_cast<size_t>(second)]));
    Part& part = parts.back();
    part.first = first;
    part.second = second;
    part.neighbours.erase(first);
    part.neighbours.erase(second);
    for (const int32_t other : part.neighbours) {
      parts[static_cast<size_t>(other)].neighbours.insert(together);
      propose(together, other, true);
    }
  }
}

class Builder {
 public:
  Builder(const std::vector<Part>& parts, const Superpixels& regions, int most_children) : parts_(parts), regions_(regions), most_children_(static_cast<size_t>(std::max(most_children, 2))) {}

  FeatureTree build() {
    tree_.add("image", -1, -1);
    open(static_cast<int32_t>(parts_.size()) - 1, 0);
    return std::move(tree_);
  }

 private:
  // Parts were merged in the order of their numbers: the highest are opened first.
  [[nodiscard]] std::vector<int32_t> children(int32_t part) const {
    std::vector<int32_t> found{part};
    while (found.size() < most_children_) {
      const auto last = std::max_element(found.begin(), found.end());
      const Part& opened = parts_[static_cast<size_t>(*last)];
      if (opened.region >= 0) break;
      *last = opened.first;
      found.push_back(opened.second);
    }
    std::sort(found.begin(), found.end(), [&](int32_t a, int32_t b) { return first_region(a) < first_region(b); });
    return found;
  }

  [[nodiscard]] int32_t first_region(int32_t part) const {
    const Part& p = parts_[static_cast<size_t>(part)];
    return p.region >= 0 ? p.region : std::min(first_region(p.first), first_region(p.second));
  }

  void open(int32_t part, int32_t node) {
    for (const int32_t child : children(part)) {
      const Part& p = parts_[static_cast<size_t>(child)];
      const int32_t added = tree_.add(p.region >= 0 ? fmt::format("region {} ({})", p.region + 1, place(p)) : fmt::format("part {} ({})", ++groups_, place(p)), node, p.region);
      if (p.region < 0) open(child, added);
    }
  }

  [[nodiscard]] std::string place(const Part& p) const {
    static constexpr std::array kNames = {"top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"};
    const auto third = [](double at, int64_t length) { return std::min(static_cast<size_t>(3 * at / static_cast<double>(length)), size_t{2}); };
    return kNames[3 * third(p.y, regions_.height) + third(p.x, regions_.width)];
  }

  const std::vector<Part>& parts_;
  const Superpixels& regions_;
  size_t most_children_;
  int groups_ = 0;
  FeatureTree tree_;
};

}  // namespace

FeatureTree region_tree(const RgbImage& image, const Superpixels& regions, int most_children) {
  std::vector<Part> parts = parts_of(image, regions);
  merge_all(parts);
  return Builder(parts, regions, most_children).build();
}

}  // namespace deepseek::explain
