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

std::string measured(const Words& say, const std::string& measure, double value) {
  return measure == "accuracy" ? say("accuracy {:.1f}%", "准确率 {:.1f}%", 100 * value) : fmt::format("{} {:.3f}", measure, value);
}

std::string share_line(const Words& say, const std::string& name, const explain::NodeReliance& node) {
  std::string line = fmt::format("  {} {:5.1f}% ±{:.1f}", named(name), 100 * node.share, 100 * node.half_width);
  if (node.expected) line += say("  expected {:.1f}%, excess {:+.1f} ±{:.1f}", "  预期 {:.1f}%，超出 {:+.1f} ±{:.1f}", 100 * *node.expected, 100 * node.excess, 100 * node.excess_half_width);
  return line + (node.flagged ? say("  <- too much", "  <- 过度依赖") : "") + "\n";
}

std::string proxies_text(const Words& say, const explain::ProxyReport& report) {
  const std::string feature = explain::harmless(report.feature);
  std::string text = say("\nWhat stands for {0}: the other columns foretell it with {1}; without them {2}.\n", "\n可替代 {0} 的特征：用其余列预测它，{1}；不用时 {2}。\n", feature,
                         measured(say, report.measure, report.reached), measured(say, report.measure, report.without));
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
              measured(say, measure, before[measure].get<double>()), measured(say, measure, after[measure].get<double>()));
  for (const Json& risen : measures["risen"]) {
    text += say("  the model then leans more on {}: {:.1f}% -> {:.1f}%\n", "  模型随之更依赖 {}：{:.1f}% -> {:.1f}%\n", explain::harmless(risen["feature"].get<std::string>()), 100 * risen["before"].get<double>(),
                100 * risen["after"].get<double>());
  }
  if (plan["steps"].empty()) text += say("  It has no steps.\n", "  方案没有任何步骤。\n");
  if (!measures["reached"].get<bool>()) text += say("  It does not reach what was wanted within the accuracy that may be lost (--most_accuracy_lost).\n", "  在允许损失的准确率内（--most_accuracy_lost）未能达到目标。\n");
  for (const std::string& other : flagged) {
    if (other != feature) text += say("  Nothing is planned for {} yet: --feature does that.\n", "  尚未为 {} 制定方案：请使用 --feature。\n", explain::harmless(other));
  }
  return text;
}

}  // namespace

std::string training_text(const Json& report, bool chinese) {
  const Words say = words(chinese);
  const auto count = [&](const char* name) { return base::with_commas(report[name].get<uint64_t>()); };
  const bool trees = report["learner"] == "trees";
  std::string text = say("{} of {} rounds, trained on {} rows.\n", "{}，{} 轮，在 {} 行上训练。\n", trees ? say("Boosted trees", "提升树") : say("A net", "神经网络"), count("rounds"), count("rows"));
  text += say("On {} rows that were held out: ", "在留出的 {} 行上：", count("held_out"));
  if (report.contains("accuracy")) {
    text += measured(say, "accuracy", report["accuracy"].get<double>()) + say(" (the most frequent class alone: {:.1f}%)", "（只猜最常见类别：{:.1f}%）", 100 * report["majority"].get<double>());
    if (report.contains("auc")) text += say(", area under the ROC curve {:.3f}", "，ROC 曲线下面积 {:.3f}", report["auc"].get<double>());
  } else {
    text += say("root mean square error {:.4g}", "均方根误差 {:.4g}", report["rmse"].get<double>());
    if (report.contains("r2")) text += say(", r2 {:.3f} (1 is perfect, 0 no better than the mean)", "，r2 {:.3f}（1 为完美，0 不优于平均值）", report["r2"].get<double>());
  }
  return text + say(".\n", "。\n");
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
