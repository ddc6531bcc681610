// Charts of a run: the same points as an SVG that always shows and as a Vega-Lite specification.
#pragma once

#include <string>
#include <vector>

#include "train/report/run_record.h"

namespace deepseek::train {

enum class Mark { kFaintLine, kLine, kPoints };

struct Point {
  double x, y;
};

struct Series {
  std::string name;
  Mark mark = Mark::kLine;
  int colour = 1;  ///< 1 or 2, as in the style sheet.
  std::vector<Point> points;
};

struct StageMark {
  double step;
  std::string label;
};

struct Chart {
  std::string id, title, unit;
  bool from_zero = false;
  std::vector<Series> series;
  std::vector<StageMark> stages;
};

/// Loss, learning rate, gradient norm, tokens per second; those without any point are left out.
[[nodiscard]] std::vector<Chart> make_charts(const RunRecord& run);
[[nodiscard]] std::string to_svg(const Chart& chart);
[[nodiscard]] Json to_vega_lite(const Chart& chart);
/// `text` safe inside HTML text and quoted attributes.
/// Four significant digits, with commas from 10,000 on; a dash for NaN.
[[nodiscard]] std::string short_number(double value);

}  // namespace deepseek::train
