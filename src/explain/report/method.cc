// The method of an explanation as rows of label and text.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "explain/report/story.h"

namespace deepseek::explain {
namespace {

std::string rows_text(const Words& say, int64_t rows) { return say("{} rows", "{} 行", base::with_commas(static_cast<uint64_t>(rows))); }

std::string units_text(const Words& say, const Document& document) {
  const std::string units = say.term(document.units);
  if (document.units == "log-odds" && document.outputs <= 2) return say("{}; probability = 1 / (1 + exp(-score))", "{}；概率 = 1 / (1 + exp(-得分))", units);
  if (document.units == "log-probability") return say("{}; probability = exp(score)", "{}；概率 = exp(得分)", units);
  if (document.units == "log") return say("{}; prediction = exp(score)", "{}；预测值 = exp(得分)", units);
  return say("{}; no link", "{}；无联系函数", units);
}

std::string error_text(const Words& say, const Document& document) {
  const bool of_mean = document.global && std::any_of(document.global->half_widths.begin(), document.global->half_widths.end(), [](double x) { return x > 0; });
  if (document.exact && of_mean) {
    return say("± is half of the {:.4g}% interval of a mean over the rows; the values of each row are exact for this background", "± 为各行平均值的 {:.4g}% 置信区间的半宽；每一行的归因值在此背景数据下为精确值",
               100 * document.confidence);
  }
  if (document.exact) return say("none: the values are exact for this background", "无：归因值在此背景数据下为精确值");
  return say("± is half of the {:.4g}% interval of each figure", "± 为各数值 {:.4g}% 置信区间的半宽", 100 * document.confidence);
}

std::string data_text(const Words& say, const Document& document) {
  std::string text = harmless(document.data);
  if (document.data_rows >= 0) text += (text.empty() ? "" : say(", ", "，")) + rows_text(say, document.data_rows);
  if (document.background_rows >= 0) text += say("; background of {}", "；背景数据集 {}", rows_text(say, document.background_rows));
  return text;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> Teller::method() const {
  std::vector<std::pair<std::string, std::string>> rows;
  const auto add = [&](std::string label, std::string text) {
    if (!text.empty()) rows.emplace_back(std::move(label), std::move(text));
  };
  const bool average = document.units == "log-odds" && document.worth != "baseline";
  add(say("base value", "基准值"), figures.plain(document.base) + say.bracketed(base_name()) +
                                      (average ? say("; an average of log-odds is not that of the probabilities", "；对数几率的平均值并不对应概率的平均值") : ""));
  add(say("units and link", "单位与联系函数"), units_text(say, document));
  if (document.local) {
    const double sum = document.local->values[0];
    add(say("sum", "求和"), say("base value + all values = score: {} {} {} = {}", "基准值 + 全部归因值 = 得分：{} {} {} = {}", figures.plain(document.base), sum < 0 ? figures.minus : "+",
        figures.plain(std::abs(sum)),
                             figures.plain(document.local->score)));
  }
  add(say("engine", "计算方法"), say.term(document.engine));
  add(say("worth", "特征缺席的处理"), say.term(document.worth));
  add(say("values", "归因值"), say.term(document.values));
  add(say("interactions", "交互作用"), say.term(document.interactions));
  add(say("error bars", "误差线"), error_text(say, document));
  if (document.coalitions >= 0) {
    std::string calls = say("{} coalitions", "{} 个联盟", base::with_commas(static_cast<uint64_t>(document.coalitions)));
    if (document.seed >= 0) calls += say("; seed {}", "；随机种子 {}", document.seed);
    add(say("model calls", "模型调用"), calls);
  }
  add(say("model", "模型"), harmless(document.model) + (document.kind.empty() ? "" : say.bracketed(harmless(document.kind))));
  add(say("data", "数据"), data_text(say, document));
  if (document.local && document.local->sample >= 0) add(say("sample", "样本"), say("row {} (0 is the first)", "第 {} 行（从 0 数起）", document.local->sample));
  if (document.global) add(say("rows explained", "解释的行数"), base::with_commas(static_cast<uint64_t>(std::max<int64_t>(0, document.global->rows))));
  for (const std::string& note : document.notes) add(say("note", "备注"), harmless(note));
  return rows;
}

}  // namespace deepseek::explain
