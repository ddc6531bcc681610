#include "explain/report/text_report.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

constexpr int kNarrowestBar = 12, kWidestBar = 48, kLongestName = 36, kLongestInput = 18, kLongestAfter = 44, kShortestAfter = 12, kShortestPair = 24;
constexpr size_t kInteractions = 8;

struct Line {
  std::string name, input, figure, after;
  double value = 0, half_width = 0;
  bool bar = true;
};

std::string padded(const std::string& text, int columns) { return text + std::string(std::max(0, columns - columns_of(text)), ' '); }
std::string padded_left(const std::string& text, int columns) { return std::string(std::max(0, columns - columns_of(text)), ' ') + text; }

// Children of a node as they are shown: the kept ones by falling size, and how many leaves are left.
struct Shown {
  std::vector<int> children;
  int others = 0;
};

Shown shown_children(const Document& document, const std::vector<bool>& kept, const std::vector<double>& column, int node) {
  Shown shown;
  for (const int child : document.nodes[node].children) {
    if (kept[child]) shown.children.push_back(child);
    else shown.others += document.nodes[child].leaves;
  }
  std::stable_sort(shown.children.begin(), shown.children.end(), [&](int a, int b) { return std::abs(column[a]) > std::abs(column[b]); });
  return shown;
}

// The lines of the tree below the root, in reading order.
class TreeLines {
 public:
  TreeLines(const Teller& teller, bool of_sample, size_t features)
      : teller_(teller), of_sample_(of_sample), values_(of_sample ? teller.document.local->values : teller.document.global->importance),
        half_widths_(of_sample ? teller.document.local->half_widths : teller.document.global->half_widths), kept_(values_.size()) {
    keep_strongest(teller.document, values_, features, kept_);
    if (teller.document.nodes[0].feature >= 0) add_node(0, 0);
    else walk();
  }
  std::vector<Line> lines;
  bool unsure = false;  ///< some line's interval holds 0

 private:
  // Depth first without recursion: a tree may be a chain as long as it has features.
  void walk() {
    struct Visit {
      int node, depth, others_of = -1;
    };
    std::vector<Visit> stack{{0, -1}};
    while (!stack.empty()) {
      const Visit visit = stack.back();
      stack.pop_back();
      if (visit.others_of >= 0) {
        add_others(visit.others_of, visit.depth);
        continue;
      }
      if (visit.depth >= 0) add_node(visit.node, visit.depth);
      const Shown shown = shown_children(teller_.document, kept_, values_, visit.node);
      if (shown.others > 0) stack.push_back({-1, visit.depth + 1, visit.node});
      for (auto child = shown.children.rbegin(); child != shown.children.rend(); ++child) stack.push_back({*child, visit.depth + 1});
    }
  }

  void add_node(int node, int depth) {
    const Document& document = teller_.document;
    Line line{.value = values_[node], .half_width = half_widths_[node]};
    line.name = std::string(2 * std::min(depth, 8), ' ') + harmless(document.nodes[node].name);
    if (of_sample_) line.input = teller_.input(node);
    line.figure = of_sample_ ? teller_.figures.with_bar(line.value, line.half_width) : teller_.mean_figures.with_bar(line.value, line.half_width);
    if (!of_sample_ && line.figure.starts_with('+')) line.figure.erase(0, 1);
    if (!of_sample_) line.after = document.nodes[node].feature >= 0 ? teller_.direction(node) : "";
    if (holds_zero(line.value, line.half_width)) {
      line.figure += " ≈0";
      unsure = true;
    }
    lines.push_back(std::move(line));
  }

  void add_others(int node, int depth) {
    const Shown shown = shown_children(teller_.document, kept_, values_, node);
    Line line{.name = std::string(2 * std::min(depth, 8), ' ') + teller_.others(shown.others)};
    if (of_sample_) {
      line.value = values_[node];
      for (const int child : shown.children) line.value -= values_[child];
      if (std::abs(line.value) < 1e-12 * (1 + std::abs(values_[node]))) line.value = 0;  // what the subtraction leaves of nothing
      line.figure = teller_.figures.with_sign(line.value);
    } else {
      double greatest = 0;
      for (const int child : teller_.document.nodes[node].children) greatest = kept_[child] ? greatest : std::max(greatest, values_[child]);
      line.figure = "≤ " + teller_.mean_figures.plain(greatest);
      line.bar = false;
    }
    lines.push_back(std::move(line));
  }

  const Teller& teller_;
  bool of_sample_;
  const std::vector<double>&values_, &half_widths_;
  std::vector<bool> kept_;
};

// Bars of one chart: "│" stands at zero, "█" is the part of a value that is sure, "▒" its interval.
struct Bars {
  double low = 0, high = 0;
  int columns = 0;

  void take(const Line& line) {
    low = std::min(low, line.value - line.half_width);
    high = std::max(high, line.value + line.half_width);
  }
  [[nodiscard]] std::string draw(const Line& line) const {
    const double scale = (columns - 1) / std::max(high - low, 1e-300);
    const int axis = static_cast<int>(std::lround(-low * scale));
    const auto cells = [&](double x) { return static_cast<int>(std::lround(x * scale)); };
    const int end = cells(line.value), from = cells(line.value - line.half_width), to = cells(line.value + line.half_width);
    std::string bar;
    for (int column = 0; column < columns; ++column) {
      const int at = column - axis;  // cells from zero; the axis itself is 0
      const bool inside = end > 0 ? at > 0 && at <= end : at < 0 && at >= end;
      const bool unsure = line.half_width > 0 && (at > 0 ? at > std::max(from, 0) && at <= to : at < std::min(to, 0) && at >= from);
      bar += at == 0 ? "│" : unsure ? "▒" : inside ? "█" : " ";
    }
    return bar.substr(0, bar.find_last_not_of(' ') + 1);
  }
};

// Name, input, figure and bar in columns.
std::string table(const std::vector<Line>& lines, int width) {
  int name = 0, input = 0, figure = 0;
  Bars bars;
  for (const Line& line : lines) {
    name = std::max(name, columns_of(fitted(line.name, kLongestName)));
    input = std::max(input, columns_of(fitted(line.input, kLongestInput)));
    figure = std::max(figure, columns_of(line.figure));
    if (line.bar) bars.take(line);
  }
  name = std::max(std::min(name, width - figure - (input > 0 ? input + 2 : 0) - 4), 8);
  int after = 0;
  for (const Line& line : lines) after = std::max(after, columns_of(line.after));
  const int used = 2 + name + 2 + (input > 0 ? input + 2 : 0) + figure + 2;
  after = std::min({after, kLongestAfter, width - used - kNarrowestBar - 2});
  const bool beside = after >= kShortestAfter;
  bars.columns = std::min(kWidestBar, width - used - (beside ? 2 + after : 0));
  std::string text;
  for (const Line& line : lines) {
    std::string row = "  " + padded(fitted(line.name, name), name) + "  ";
    if (input > 0) row += padded(fitted(line.input, input), input) + "  ";
    row += padded_left(line.figure, figure);
    if (bars.columns >= kNarrowestBar && line.bar) row += "  " + (beside && !line.after.empty() ? padded(bars.draw(line), bars.columns) : bars.draw(line));
    if (beside && !line.after.empty()) row += "  " + fitted(line.after, after);
    text += row + "\n";
  }
  return text;
}

// Breaks a text at spaces, or after any wide character, so that no line is wider than `width`.
std::string wrapped(const std::string& text, int width, int indent) {
  std::string result, line(indent, ' '), word;
  const auto place = [&] {
    if (columns_of(line) + columns_of(word) > width && columns_of(line) > indent) {
      result += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
      line.assign(indent, ' ');
      word.erase(0, word.find_first_not_of(' ') == std::string::npos ? word.size() : word.find_first_not_of(' '));
    }
    line += word;
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    size_t size = 1;
    while (at + size < text.size() && (text[at + size] & 0xC0) == 0x80) ++size;
    const std::string character = text.substr(at, size);
    const bool closes = character == "，" || character == "。" || character == "；" || character == "：" || character == "）" || character == "、";
    if (character == " " || (columns_of(character) == 2 && !closes)) place();
    word += character;
    at += size;
  }
  place();
  return result + line + "\n";
}

std::string heading(const std::string& text, int width) { return "\n" + wrapped(text, width, 0); }

std::string interactions(const Teller& teller, bool of_sample, int width) {
  const auto& list = of_sample ? teller.document.local->interactions : teller.document.global->interactions;
  if (list.empty()) return "";
  const Words& say = teller.say;
  std::string text = heading(of_sample ? say("Synergies (+) and conflicts (-), parts of the values above, not on top of them", "协同（+）与冲突（-）：属于上述归因值的一部分，并非额外叠加")
                                       : say("Interactions (mean absolute value), parts of the values above, not on top of them", "交互作用（平均绝对值）：属于上述归因值的一部分，并非额外叠加"), width);
  const Figures& figures = of_sample ? teller.figures : teller.mean_figures;
  int name = 0, figure = 0, hint = 0;
  const size_t count = std::min(kInteractions, list.size());
  const auto figure_of = [&](const ShownInteraction& i) {
    const std::string signed_figure = figures.with_bar(i.value, i.half_width);
    return of_sample || !signed_figure.starts_with('+') ? signed_figure : signed_figure.substr(1);
  };
  const auto hint_of = [&](const ShownInteraction& i) -> std::string { return of_sample || holds_zero(i.value, i.half_width) ? teller.interaction_hint(i) : ""; };
  for (size_t i = 0; i < count; ++i) {
    name = std::max(name, columns_of(teller.interaction_name(list[i])));
    figure = std::max(figure, columns_of(figure_of(list[i])));
    hint = std::max(hint, columns_of(hint_of(list[i])));
  }
  name = std::min(name, std::max(kShortestPair, width - figure - 4 - (hint > 0 ? hint + 2 : 0)));
  for (size_t i = 0; i < count; ++i) {
    std::string row = "  " + padded(fitted(teller.interaction_name(list[i]), name), name) + "  " + padded_left(figure_of(list[i]), figure);
    if (const std::string said = hint_of(list[i]); !said.empty() && columns_of(row) + 2 + columns_of(said) <= width) row += "  " + said;
    text += row + "\n";
  }
  if (count < list.size()) text += "  " + say("and {} weaker ones", "另有 {} 个较弱的交互作用", list.size() - count) + "\n";
  return text;
}

std::string paragraph(const Words& say, const std::vector<std::string>& sentences, int width) {
  std::string text;
  for (const std::string& sentence : sentences) text += (text.empty() ? "" : say(" ", "")) + sentence;
  return "\n" + wrapped(text, width, 0);
}

std::string legend(const Teller& teller, const std::vector<double>& half_widths, bool unsure, int width) {
  const bool bars = std::any_of(half_widths.begin(), half_widths.end(), [](double x) { return x > 0; });
  if (!bars) return "";
  const Words& say = teller.say;
  std::string text = say("█ value, ▒ and ±: its {:.4g}% interval", "█ 归因值，▒ 与 ±：{:.4g}% 置信区间", 100 * teller.document.confidence);
  if (unsure) text += say("; ≈0: cannot be told apart from 0", "；≈0：与 0 无法区分");
  return wrapped(text, width, 2);
}

std::string sample_part(const Teller& teller, const TextReportOptions& options) {
  const Words& say = teller.say;
  const ShownSample& sample = *teller.document.local;
  const TreeLines tree(teller, true, static_cast<size_t>(std::max(1, options.features)));
  std::string text = heading(say("Values: what moves the score away from the base value ({})", "归因值：得分相对基准值的变化来源（{}）", say.term(teller.document.units)), options.width);
  text += table(tree.lines, options.width);
  text += wrapped(say("sum {} = score {} - base value {}", "合计 {} = 得分 {} - 基准值 {}", teller.figures.with_sign(sample.values[0]), teller.figures.plain(sample.score),
      teller.figures.plain(teller.document.base)), options.width, 2);
  text += legend(teller, sample.half_widths, tree.unsure, options.width);
  return text + interactions(teller, true, options.width) + paragraph(say, teller.sample_sentences(), options.width);
}

std::string rows_part(const Teller& teller, const TextReportOptions& options) {
  const Words& say = teller.say;
  const ShownRows& rows = *teller.document.global;
  const TreeLines tree(teller, false, static_cast<size_t>(std::max(1, options.features)));
  std::string text = heading(say("Over {}: mean absolute value ({})", "{}：平均绝对归因值（{}）", teller.rows_explained(), say.term(teller.document.units)), options.width);
  text += table(tree.lines, options.width) + legend(teller, rows.half_widths, tree.unsure, options.width);
  return text + interactions(teller, false, options.width) + paragraph(say, teller.row_sentences(), options.width);
}

std::string method_part(const Teller& teller, int width) {
  const auto rows = teller.method();
  int label = 0;
  for (const auto& row : rows) label = std::max(label, columns_of(row.first));
  std::string text = heading(teller.say("How this was computed", "计算说明"), width);
  for (const auto& [name, value] : rows) {
    const std::string lines = wrapped(value, width, label + 4);
    text += "  " + padded(name, label) + "  " + lines.substr(label + 4);
  }
  return text;
}

}  // namespace

std::string text_report(const nlohmann::ordered_json& explanation, const std::string& language, const TextReportOptions& options) {
  const auto document = read_document(explanation);
  if (!document) return document.error().message + "\n";
  TextReportOptions fitting = options;
  fitting.width = std::max(40, options.width);
  const Teller teller(*document, language == "zh" ? Language::kChinese : Language::kEnglish);
  std::string text = wrapped(teller.conclusion(), fitting.width, 0) + wrapped(teller.conclusion_detail(), fitting.width, 0);
  if (document->local) text += sample_part(teller, fitting);
  if (document->global) text += rows_part(teller, fitting);
  return text + method_part(teller, fitting.width);
}

}  // namespace deepseek::explain
