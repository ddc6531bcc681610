#include "explain/image/superpixels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

namespace deepseek::explain {
namespace {

using base::Result;

struct Centre {
  double l = 0, a = 0, b = 0, x = 0, y = 0;
};

struct Size {
  int64_t width, height;
  [[nodiscard]] size_t at(int64_t x, int64_t y) const { return static_cast<size_t>(y * width + x); }
};

// Squared change of colour across a pixel.
double gradient(const std::vector<float>& lab, Size size, int64_t x, int64_t y) {
  const size_t left = size.at(std::max<int64_t>(x - 1, 0), y), right = size.at(std::min(x + 1, size.width - 1), y), up = size.at(x, std::max<int64_t>(y - 1, 0)),
               down = size.at(x, std::min(y + 1, size.height - 1));
  double sum = 0;
  for (size_t c = 0; c < 3; ++c) sum += std::pow(lab[3 * right + c] - lab[3 * left + c], 2) + std::pow(lab[3 * down + c] - lab[3 * up + c], 2);
  return sum;
}

// A grid of `regions` cells that are about square, each with its centre on the smoothest pixel around its middle.
std::vector<Centre> seeds(const std::vector<float>& lab, Size size, int64_t regions) {
  const double side = std::sqrt(static_cast<double>(size.width * size.height) / static_cast<double>(regions));
  const auto cells = [&](int64_t length) { return std::clamp<int64_t>(std::llround(static_cast<double>(length) / side), 1, length); };
  const int64_t columns = cells(size.width), rows = std::clamp<int64_t>(std::llround(static_cast<double>(regions) / static_cast<double>(columns)), 1, size.height);
  std::vector<Centre> centres;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t x = (2 * c + 1) * size.width / (2 * columns), y = (2 * r + 1) * size.height / (2 * rows);
      int64_t best_x = x, best_y = y;
      for (int64_t v = std::max<int64_t>(y - 1, 0); v <= std::min(y + 1, size.height - 1); ++v) {
        for (int64_t u = std::max<int64_t>(x - 1, 0); u <= std::min(x + 1, size.width - 1); ++u) {
          if (gradient(lab, size, u, v) < gradient(lab, size, best_x, best_y)) best_x = u, best_y = v;
        }
      }
      const size_t i = 3 * size.at(best_x, best_y);
      centres.push_back({lab[i], lab[i + 1], lab[i + 2], static_cast<double>(best_x), static_cast<double>(best_y)});
    }
  }
  return centres;
}

// Each pixel to the nearest of the centres around it.
void assign(const std::vector<float>& lab, Size size, const std::vector<Centre>& centres, double side, double compactness, std::vector<int32_t>& labels) {
  std::vector<double> nearest(labels.size(), std::numeric_limits<double>::infinity());
  const double weight = compactness * compactness / (side * side);
  for (size_t k = 0; k < centres.size(); ++k) {
    const Centre& c = centres[k];
    const auto reach = static_cast<int64_t>(std::ceil(side));
    const auto x = static_cast<int64_t>(c.x), y = static_cast<int64_t>(c.y);
    for (int64_t v = std::max<int64_t>(y - reach, 0); v <= std::min(y + reach, size.height - 1); ++v) {
      for (int64_t u = std::max<int64_t>(x - reach, 0); u <= std::min(x + reach, size.width - 1); ++u) {
        const size_t i = size.at(u, v);
        const double l = lab[3 * i] - c.l, a = lab[3 * i + 1] - c.a, b = lab[3 * i + 2] - c.b, dx = static_cast<double>(u) - c.x, dy = static_cast<double>(v) - c.y;
        const double distance = l * l + a * a + b * b + weight * (dx * dx + dy * dy);
        if (distance < nearest[i]) nearest[i] = distance, labels[i] = static_cast<int32_t>(k);
      }
    }
  }
}

// Each centre to the mean of its pixels; one without pixels stays.
void move_centres(const std::vector<float>& lab, Size size, const std::vector<int32_t>& labels, std::vector<Centre>& centres) {
  std::vector<Centre> sums(centres.size());
  std::vector<double> counts(centres.size());
  for (int64_t y = 0; y < size.height; ++y) {
    for (int64_t x = 0; x < size.width; ++x) {
      const size_t i = size.at(x, y);
      if (labels[i] < 0) continue;
      Centre& sum = sums[static_cast<size_t>(labels[i])];
      sum.l += lab[3 * i], sum.a += lab[3 * i + 1], sum.b += lab[3 * i + 2], sum.x += static_cast<double>(x), sum.y += static_cast<double>(y);
      counts[static_cast<size_t>(labels[i])] += 1;
    }
  }
  for (size_t k = 0; k < centres.size(); ++k) {
    const double n = counts[k];
    if (n > 0) centres[k] = {sums[k].l / n, sums[k].a / n, sums[k].b / n, sums[k].x / n, sums[k].y / n};
  }
}

// Connected parts of equal label, in the order of their first pixels.
std::vector<std::vector<size_t>> connected_parts(const std::vector<int32_t>& labels, Size size, std::vector<int32_t>& part_of) {
  std::vector<std::vector<size_t>> parts;
  part_of.assign(labels.size(), -1);
  for (size_t first = 0; first < labels.size(); ++first) {
    if (part_of[first] >= 0) continue;
    const auto part = static_cast<int32_t>(parts.size());
    std::vector<size_t> pixels{first};
    part_of[first] = part;
    for (size_t next = 0; next < pixels.size(); ++next) {
      const size_t i = pixels[next];
      const auto x = static_cast<int64_t>(i) % size.width, y = static_cast<int64_t>(i) / size.width;
      const auto visit = [&](int64_t u, int64_t v) {
        if (u < 0 || v < 0 || u >= size.width || v >= size.height) return;
        const size_t j = size.at(u, v);
        if (part_of[j] >= 0 || labels[j] != labels[i]) return;
        part_of[j] = part;
        pixels.push_back(j);
      };
      visit(x - 1, y), visit(x + 1, y), visit(x, y - 1), visit(x, y + 1);
    }
    parts.push_back(std::move(pixels));
  }
  return parts;
}

std::array<double, 3> mean_colour(const std::vector<float>& lab, const std::vector<size_t>& pixels) {
  std::array<double, 3> mean{};
  for (const size_t i : pixels) {
    for (size_t c = 0; c < 3; ++c) mean[c] += lab[3 * i + c] / static_cast<double>(pixels.size());
  }
  return mean;
}

// The part beside `pixels` whose colour is nearest. Of several parts each has a neighbour.
int32_t nearest_neighbour(const std::vector<size_t>& pixels, int32_t own, const std::vector<int32_t>& part_of, Size size, const std::vector<std::array<double, 3>>& colours) {
  int32_t best = -1;
  double least = std::numeric_limits<double>::infinity();
  for (const size_t i : pixels) {
    const auto x = static_cast<int64_t>(i) % size.width, y = static_cast<int64_t>(i) / size.width;
    const auto look = [&](int64_t u, int64_t v) {
      if (u < 0 || v < 0 || u >= size.width || v >= size.height) return;
      const int32_t other = part_of[size.at(u, v)];
      if (other == own) return;
      double distance = 0;
      for (size_t c = 0; c < 3; ++c) distance += std::pow(colours[static_cast<size_t>(other)][c] - colours[static_cast<size_t>(own)][c], 2);
      if (distance < least) least = distance, best = other;
    };
    look(x - 1, y), look(x + 1, y), look(x, y - 1), look(x, y + 1);
  }
  return best;
}

// Parts join a neighbour, the smallest first, until none is a scrap and there are no more than `most`; what is left is numbered anew.
int32_t connect(const std::vector<float>& lab, Size size, size_t smallest, size_t most, std::vector<int32_t>& labels) {
  std::vector<int32_t> part_of;
  auto parts = connected_parts(labels, size, part_of);
  std::vector<std::array<double, 3>> colours;
  std::set<std::pair<size_t, int32_t>> by_size;
  for (size_t p = 0; p < parts.size(); ++p) {
    colours.push_back(mean_colour(lab, parts[p]));
    by_size.emplace(parts[p].size(), static_cast<int32_t>(p));
  }
  while (by_size.size() > 1 && (by_size.begin()->first < smallest || by_size.size() > most)) {
    const int32_t p = by_size.begin()->second, to = nearest_neighbour(parts[static_cast<size_t>(p)], p, part_of, size, colours);
    auto &pixels = parts[static_cast<size_t>(p)], &joined = parts[static_cast<size_t>(to)];
    by_size.erase(by_size.begin());
    by_size.erase({joined.size(), to});
    auto &colour = colours[static_cast<size_t>(to)], &added = colours[static_cast<size_t>(p)];
    const double share = static_cast<double>(pixels.size()) / static_cast<double>(pixels.size() + joined.size());
    for (size_t c = 0; c < 3; ++c) colour[c] += share * (added[c] - colour[c]);
    for (const size_t i : pixels) part_of[i] = to;
    joined.insert(joined.end(), pixels.begin(), pixels.end());
    pixels.clear();
    by_size.emplace(joined.size(), to);
  }
  std::vector<int32_t> number(parts.size(), -1);
  int32_t count = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    int32_t& n = number[static_cast<size_t>(part_of[i])];
    if (n < 0) n = count++;
    labels[i] = n;
  }
  return count;
}

}  // namespace

std::vector<float> lab_of(const RgbImage& image) {
  std::array<double, 256> linear{};
  for (size_t i = 0; i < linear.size(); ++i) {
    const double c = static_cast<double>(i) / 255;
    linear[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  const auto f = [](double t) { return t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116; };
  std::vector<float> lab(image.pixels.size());
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
    const double r = linear[image.pixels[i]], g = linear[image.pixels[i + 1]], b = linear[image.pixels[i + 2]];
    // IEC 61966-2-1 to XYZ, by the white of D65.
    const double x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505), y = f(0.2126 * r + 0.7152 * g + 0.0722 * b), z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
    lab[i] = static_cast<float>(116 * y - 16);
    lab[i + 1] = static_cast<float>(500 * (x - y));
    lab[i + 2] = static_cast<float>(200 * (y - z));
  }
  return lab;
}

Result<Superpixels> slic(const RgbImage& image, const SuperpixelOptions& o) {
  const Size size{image.width, image.height};
  if (size.width < 1 || size.height < 1) return base::refuse("an image of {} x {} pixels has no regions", size.width, size.height);
  if (size.width > (int64_t{1} << 30) / size.height || image.pixels.size() != static_cast<size_t>(size.width * size.height * 3)) {
    return base::refuse("{} bytes are no RGB image of {} x {} pixels", image.pixels.size(), size.width, size.height);
  }
  if (o.regions < 1) return base::refuse("{} regions are too few", o.regions);
  const std::vector<float> lab = lab_of(image);
  const int64_t regions = std::min(o.regions, size.width * size.height);
  std::vector<Centre> centres = seeds(lab, size, regions);
  const double area = static_cast<double>(size.width * size.height) / static_cast<double>(centres.size()), side = std::sqrt(area);
  Superpixels found{.width = size.width, .height = size.height, .labels = std::vector<int32_t>(static_cast<size_t>(size.width * size.height), -1)};
  for (int i = 0; i < std::max(o.iterations, 1); ++i) {
    assign(lab, size, centres, side, o.compactness, found.labels);
    move_centres(lab, size, found.labels, centres);
  }
  found.count = connect(lab, size, static_cast<size_t>(std::max(1.0, area / 4)), centres.size(), found.labels);
  return found;
}

}  // namespace deepseek::explain
