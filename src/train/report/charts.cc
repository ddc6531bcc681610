#include "train/report/charts.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "base/web_page.h"

namespace deepseek::train {
namespace {

constexpr double kWidth = 860, kHeight = 260, kLeft = 70, kRight = 14, kTop = 20, kBottom = 40;
constexpr size_t kMaxPoints = 1500;  // More than a screen has columns.

// Means of neighbouring points, so that a run of a million steps still makes a small page.
std::vector<Point> thinned(const std::vector<Point>& points) {
  const size_t group = (points.size() + kMaxPoints - 1) / kMaxPoints;
  if (group <= 1) return points;
  std::vector<Point> result;
  for (size_t at = 0; at < points.size(); at += group) {
    const size_t end = std::min(points.size(), at + group);
    double y = 0;
    for (size_t i = at; i < end; ++i) y += points[i].y / static_cast<double>(end - at);
    result.push_back({points[end - 1].x, y});
  }
  return result;
}

std::vector<Point> points_of(const std::map<int64_t, Json>& lines, const char* field) {
  std::vector<Point> points;
  for (const auto& [step, line] : lines) {
    const double y = number(line, field);
    if (std::abs(y) < 1e15) points.push_back({static_cast<double>(step), y});  // Also false for NaN.
  }
  return points;
}

// Exponential mean without the bias towards its first value, over about a twentieth of the run.
std::vector<Point> smoothed(std::vector<Point> points) {
  const double keep = 1 - 1 / std::max(3.0, static_cast<double>(points.size()) / 20);
  double mean = 0, weight = 0;
  for (Point& point : points) {
    mean = keep * mean + (1 - keep) * point.y;
    weight = keep * weight + (1 - keep);
    point.y = mean / weight;
  }
  return points;
}

struct Range {
  double low, high;
};

Range range_of(const Chart& chart, double Point::*axis, bool from_zero) {
  Range range{INFINITY, -INFINITY};
  for (const Series& series : chart.series) {
    for (const Point& point : series.points) {
      range = {std::min(range.low, point.*axis), std::max(range.high, point.*axis)};
    }
  }
  if (from_zero) range.low = std::min(0.0, range.low);
  if (range.high <= range.low) range.high = range.low + std::max(1e-9, std::abs(range.low) * 0.1);
  return range;
}

// Round tick values: 1, 2 or 5 times a power of ten.
std::vector<double> ticks(Range range, int wanted) {
  const double rough = (range.high - range.low) / wanted, power = std::pow(10, std::floor(std::log10(rough)));
  const double unit = rough / power, step = power * (unit > 5 ? 10 : unit > 2 ? 5 : unit > 1 ? 2 : 1);
  std::vector<double> result;
  for (double i = std::ceil(range.low / step); i * step <= range.high + step * 1e-6 && result.size() < 20; ++i) {
    result.push_back(i * step);
  }
  return result;
}

struct Frame {
  Range x, y;
  double at_x(double value) const { return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double at_y(double value) const { return kHeight - kBottom - (value - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom); }
};

std::string svg_axes(const Chart& chart, const Frame& frame) {
  std::string svg;
  for (const double tick : ticks(frame.y, 5)) {
    const double y = frame.at_y(tick);
    svg += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, kWidth - kRight, y, y);
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kLeft - 8, y + 4, short_number(tick));
  }
  for (const double tick : ticks(frame.x, 8)) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>", frame.at_x(tick), kHeight - kBottom + 18,
                       short_number(tick));
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>", (kLeft + kWidth) / 2, kHeight - 5);
  for (const StageMark& stage : chart.stages) {
    if (stage.step < frame.x.low || stage.step > frame.x.high) continue;
    const double x = frame.at_x(stage.step);
    svg += fmt::format("<line class=\"stage\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"/>", x, x, kTop, kHeight - kBottom);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\">{}</text>", x + 4, kTop - 6, base::escape_html(stage.label));
  }
  return svg;
}

std::string svg_series(const Series& series, const Frame& frame) {
  std::string path, dots;
  for (const Point& point : series.points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", frame.at_x(point.x), frame.at_y(point.y));
    if (series.mark == Mark::kPoints) {
      dots += fmt::format("<circle class=\"c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/>", series.colour, frame.at_x(point.x),
                          frame.at_y(point.y));
    }
  }
  return fmt::format("<path class=\"c{}{}\" d=\"{}\"/>{}", series.colour, series.mark == Mark::kFaintLine ? " faint" : "", path,
                     dots);
}

Json vega_layer(const Chart& chart, const Series& series) {
  Json values = Json::array();
  for (const Point& point : series.points) values.push_back({{"step", point.x}, {"value", point.y}});
  Json mark = {{"type", "line"}, {"tooltip", series.mark != Mark::kFaintLine}};
  if (series.mark == Mark::kFaintLine) mark.update({{"opacity", 0.3}, {"strokeWidth", 1}});
  if (series.mark == Mark::kPoints) mark.update({{"point", {{"filled", true}, {"size", 70}}}});
  Json colour = {{"datum", series.name}, {"type", "nominal"}, {"title", nullptr}};
  if (chart.series.size() == 1) colour["legend"] = nullptr;
  Json layer = {{"data", {{"values", values}}}, {"mark", mark}};
  layer["encoding"] = {{"x", {{"field", "step"}, {"type", "quantitative"}, {"title", "step"}, {"scale", {{"nice", false}}}}},
                       {"y", {{"field", "value"}, {"type", "quantitative"}, {"title", chart.unit},
                              {"scale", {{"zero", chart.from_zero}}}}},
                       {"color", colour}};
  return layer;
}

}  // namespace

std::vector<Chart> make_charts(const RunRecord& run) {
  std::vector<StageMark> stages;
  for (const Json& stage : run.stages) {
    const int64_t step = whole(stage, "step");
    if (step >= 0) stages.push_back({static_cast<double>(step), fmt::format("stage {}", whole(stage, "stage"))});
  }
  if (stages.size() > 30) stages.clear();  // Marks as close as that hide the curve.
  const std::vector<Point> loss = points_of(run.steps, "loss");
  std::vector<Chart> charts = {
      {"loss", "Loss", "loss", false, {{"each step", Mark::kFaintLine, 1, thinned(loss)},
                                       {"training, smoothed (faint: each step)", Mark::kLine, 1, thinned(smoothed(loss))},
                                       {"held-out", Mark::kPoints, 2, thinned(points_of(run.evaluations, "loss"))}}, stages},
      {"learning_rate", "Learning rate", "learning rate", true,
       {{"learning rate", Mark::kLine, 1, thinned(points_of(run.steps, "learning_rate"))}}, {}},
      {"gradient_norm", "Gradient norm", "norm before clipping", true,
       {{"gradient norm", Mark::kLine, 1, thinned(points_of(run.steps, "gradient_norm"))}}, {}},
      {"speed", "Tokens per second", "tokens per second", true,
       {{"tokens per second", Mark::kLine, 1, thinned(points_of(run.steps, "tokens_per_second"))}}, {}}};
  for (Chart& chart : charts) std::erase_if(chart.series, [](const Series& series) { return series.points.empty(); });
  std::erase_if(charts, [](const Chart& chart) { return chart.series.empty(); });
  return charts;
}

std::string to_svg(const Chart& chart) {
  const Frame frame{range_of(chart, &Point::x, false), range_of(chart, &Point::y, chart.from_zero)};
  std::string svg = fmt::format("<svg class=\"plain\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                                base::escape_html(chart.title + " by step"));
  svg += svg_axes(chart, frame);
  for (const Series& series : chart.series) svg += svg_series(series, frame);
  svg += "</svg>";
  if (chart.series.size() < 2) return svg;
  svg += "<p class=\"legend\">";
  for (const Series& series : chart.series) {
    if (series.mark != Mark::kFaintLine) svg += fmt::format("<span class=\"c{}\">{}</span> ", series.colour, base::escape_html(series.name));
  }
  return svg + "</p>";
}

Json to_vega_lite(const Chart& chart) {
  Json layers = Json::array(), names = Json::array(), colours = Json::array(), legend = Json::array();
  if (!chart.stages.empty()) {
    Json values = Json::array();
    for (const StageMark& stage : chart.stages) values.push_back({{"step", stage.step}, {"label", stage.label}});
    const Json x = {{"field", "step"}, {"type", "quantitative"}};
    layers.push_back({{"data", {{"values", values}}},
                      {"encoding", {{"x", x}}},
                      {"layer",
                       {{{"mark", {{"type", "rule"}, {"strokeDash", {4, 4}}}}},
                        {{"mark", {{"type", "text"}, {"align", "left"}, {"dx", 4}, {"baseline", "bottom"}}},
                         {"encoding", {{"text", {{"field", "label"}}}, {"y", {{"value", 0}}}}}}}}});
  }
  for (const Series& series : chart.series) {
    layers.push_back(vega_layer(chart, series));
    names.push_back(series.name);
    colours.push_back(series.colour);
    if (series.mark != Mark::kFaintLine) legend.push_back(series.name);
  }
  // The page fills in colours and theme: usermeta tells it which.
  return {{"width", "container"}, {"height", 240}, {"layer", layers}, {"usermeta", {{"names", names}, {"colours", colours}, {"legend", legend}}}};
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "–";
  if (std::abs(value) < 1e-12) return "0";
  if (std::abs(value) >= 1e4 && std::abs(value) < 1e15) {
    return (value < 0 ? "-" : "") + base::with_commas(static_cast<uint64_t>(std::llround(std::abs(value))));
  }
  return fmt::format("{:.4g}", value);
}

}  // namespace deepseek::train
