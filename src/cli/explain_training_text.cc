#include "cli/explain_training_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "explain/report/words.h"

namespace deepseek::cli {
namespace {

using explain::Words;
using Json = nlohmann::ordered_json;

constexpr size_t kShown = 12;  // features of the text
constexpr int kName = 24;      // columns

std::string named(const std::string& name) {
  const std::string shown = explain::fitted(explain::harmless(name), kName);
  return shown + std::string(static_cast<size_t>(kName - explain::columns_of(shown)), ' ');
}

Words words(bool chinese) { return {chinese ? explain::Language::kChinese : explain::Language::kEnglish}; }

std::string figure(const std::string& measure, double value) { return measure == "accuracy" ? fmt::format("{:.1f}%", 100 * value) : fmt::format("{:.3f}", value); }

std::string measured(const Words& say, const std::string& measure, double value) {
  return (measure == "accuracy" ? say("accuracy", "准确率") : measure) + " " + figure(measure, value);
}

std::string share_line(const Words& say, const std::string& name, const explain::NodeReliance& node) {
  std::string line = fmt::format("  {} {:5.1f}% ±{:.1f}", named(name), 100 * node.share, 100 * node.half_width);
  if (node.expected) line += say("  expected {:.1f}%, excess {:+.1f} ±{:.1f}", "  预期 {:.1f}%，超出 {:+.1f} ±{:.1f}", 100 * *node.expected, 100 * node.excess, 100 * node.excess_half_width);
  return line + (node.flagged ? say("  <- too much", "  <- 过度依赖") : "") + "\n";
}

std::string proxies_text(const Words& say, const explain::ProxyReport& report) {
  const std::string feature = explain::harmless(report.feature);
  std::string text = say("\nWhat stands for {0}: the other columns foretell it with {1}, against {2} without them.\n", "\n可替代 {0} 的特征：用其余列预测它，{1}；不用时 {2}。\n", feature,
                         measured(say, report.measure, report.reached), figure(report.measure, report.without));
  if (report.proxies.empty()) return text + say("  They say nothing of it: it has no proxies.\n", "  其余列不含它的信息：没有替代特征。\n");
  text += say("Share of each in that:\n", "其中各列的份额：\n");
  for (const explain::Proxy& proxy : report.proxies) text += fmt::format("  {} {:5.1f}% ±{:.1f}\n", named(proxy.feature), 100 * proxy.share, 100 * proxy.half_width);
  return text;
}

std::string plan_text(const Words& say, const Json& plan, const std::vector<std::string>& flagged) {
  const Json &measures = plan["measured"], &before = measures["before"], &after = measures["after"];
  const auto measure = measures["measure"].get<std::string>(), feature = plan["feature"].get<std::string>();
  std::string text = say("\nThe plan for {}, tried by training and judged on rows that were held out:\n", "\n{} 的调整方案（通过训练试验，在留出的行上评估）：\n", explain::harmless(feature));
  text += say("  its share {:.1f}% -> {:.1f}%, {} -> {}\n", "  其份额 {:.1f}% -> {:.1f}%，{} -> {}\n", 100 * before["reliance"].get<double>(), 100 * after["reliance"].get<double>(),
              measured(say, measure, before[measure].get<double>()), figure(measure, after[measure].get<double>()));
  for (const Json& risen : measures["risen"]) {
    text += say("  the model then leans more on {}: {:.1f}% -> {:.1f}%\n", "  模型随之更依赖 {}：{:.1f}% -> {:.1f}%\n", explain::harmless(risen["feature"].get<std::string>()), 100 * risen["before"].get<double>(),
                100 * risen["after"].get<double>());
  }
  if (plan["steps"].empty()) text += say("  It has no steps.\n", "  方案没有任何步骤。\n");
  if (!measures["reached"].get<bool>()) text += say("  The {0:.1f}% that is wanted (--target_reliance) costs more than may be lost (--most_accuracy_lost).\n", "  要达到目标份额 {0:.1f}%（--target_reliance），损失会超过允许的范围（--most_accuracy_lost）。\n", 100 * measures["wanted_reliance"].get<double>());
  for (const std::string& other : flagged) {
    if (other != feature) text += say("  Nothing is planned for {0} yet: --feature {0} does that.\n", "  尚未为 {0} 制定方案：请使用 --feature {0}。\n", explain::harmless(other));
  }
  return text;
}

// No better than to say the most frequent class, or the mean, of every row. A rare class may be ranked well and still never be the likelier one.
bool learnt_nothing(const Json& report) {
  if (!report.contains("accuracy")) return report.value("r2", 1.0) <= 0;
  return report["accuracy"].get<double>() <= report["majority"].get<double>() + 0.02 && report.value("auc", 0.5) < 0.6;
}

}  // namespace

std::string training_text(const Json& report, bool chinese) {
  const Words say = words(chinese);
  const auto count = [&](const char* name) { return base::with_commas(report[name].get<uint64_t>()); };
  const bool trees = report["learner"] == "trees", one = report["rounds"] == 1;
  std::string text = say("{} of {} {}, trained on {} rows.\n", "{}，{} {}，在 {} 行上训练。\n", trees ? say("Boosted trees", "提升树") : say("A net", "神经网络"), count("rounds"), one ? say("round", "轮") : say("rounds", "轮"), count("rows"));
  text += say("On {} rows that were held out: ", "在留出的 {} 行上：", count("held_out"));
  if (report.contains("accuracy")) {
    text += measured(say, "accuracy", report["accuracy"].get<double>()) + say(" (the most frequent class alone: {:.1f}%)", "（只猜最常见类别：{:.1f}%）", 100 * report["majority"].get<double>());
    if (report.contains("auc")) text += say(", area under the ROC curve {:.3f}", "，ROC 曲线下面积 {:.3f}", report["auc"].get<double>());
  } else {
    text += say("root mean square error {:.4g}", "均方根误差 {:.4g}", report["rmse"].get<double>());
    if (report.contains("r2")) text += say(", r2 {:.3f} (1 is perfect, 0 no better than the mean)", "，r2 {:.3f}（1 为完美，0 不优于平均值）", report["r2"].get<double>());
  }
  text += say(".\n", "。\n");
  return learnt_nothing(report) ? text + say("It foretells no better than that: the columns say little of the target.\n", "预测并不优于这一基准：各列几乎不含目标的信息。\n") : text;
}

std::string reliance_text(const explain::Reliance& reliance, const std::vector<explain::ProxyReport>& proxies, const explain::FeatureTree& tree, const Json& plan, bool chinese) {
  const Words say = words(chinese);
  const auto name = [&](const explain::NodeReliance& node) { return tree.nodes[static_cast<size_t>(node.node)].name; };
  std::string text = say("What the model leans on: each feature's share of what moves its scores.\n\n", "模型所依赖的特征：各特征占得分变动的份额。\n\n");
  std::vector<std::string> flagged;
  for (size_t i = 0; i < reliance.nodes.size(); ++i) {
    const explain::NodeReliance& node = reliance.nodes[i];
    if (node.flagged) flagged.push_back(name(node));
    if (i < kShown || node.expected) text += share_line(say, name(node), node);
    else if (i == kShown) text += say("  and {} with less\n", "  另有 {} 个份额更小\n", reliance.nodes.size() - kShown);
  }
  for (const explain::ProxyReport& report : proxies) text += proxies_text(say, report);
  return plan.is_object() ? text + plan_text(say, plan, flagged) : text;
}

}  // namespace deepseek::cli
