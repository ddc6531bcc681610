#include "explain/report/story.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace deepseek::explain {
namespace {

constexpr double kWorthNaming = 0.1;  // of the greatest value
constexpr size_t kNamed = 3, kNamedUncertain = 4;

double greatest(const std::vector<double>& column) {
  double result = 0;
  for (const double x : column) result = std::max(result, std::abs(x));
  return result;
}

bool is_percentage(const std::string& units) { return units == "log-odds" || units == "probability" || units == "log-probability"; }

// What a score means as a prediction, where its units say so.
std::optional<double> linked(const std::string& units, double score) {
  if (units == "log-odds") return 1 / (1 + std::exp(-score));
  if (units == "log-probability" || units == "log") return std::exp(score);
  if (units == "probability") return score;
  return std::nullopt;
}

Figures figures_for(double size, const std::string& minus) { return {Figures::decimals_for(size), minus}; }

}  // namespace

Teller::Teller(const Document& document, Language language, const std::string& minus)
    : document(document), say{language}, figures{2, minus}, mean_figures{2, minus} {
  if (document.global) mean_figures = figures_for(greatest(document.global->importance), minus);
  figures = document.local ? figures_for(greatest(document.local->values), minus) : mean_figures;
}

std::string Teller::subject() const {
  const std::string target = harmless(document.target), output = harmless(document.output);
  if (target.empty() && output.empty()) return say("the prediction", "预测结果");
  return target.empty() || target == output ? output : output.empty() ? target : target + " = " + output;
}

// In a sentence, where a name of several words would read as part of it.
std::string Teller::quoted_subject() const { return document.target.empty() && document.output.empty() ? subject() : say("“{}”", "“{}”", subject()); }

std::string Teller::base_name() const {
  if (document.worth == "path dependent") return say("the average over the training rows in the trees", "训练样本在树中的平均值");
  if (document.worth == "baseline") return say("the score of the baseline", "基线的得分");
  if (document.worth == "taken out" || document.worth == "filled") return say("the score without the prompt", "没有提示时的得分");
  if (document.worth == "blurred" || document.worth == "mean colour") return say("the score with all regions hidden", "所有区域都被遮盖时的得分");
  if (document.background_rows < 0) return say("the average over the background", "背景数据集的平均值");
  return say("the average over {} background rows", "{} 行背景数据的平均值", base::with_commas(static_cast<uint64_t>(document.background_rows)));
}

std::string Teller::prediction() const {
  const double score = document.local->score;
  const std::optional<double> shown = document.units == "probability" ? score : document.local->prediction;
  if (!shown) return figures.plain(score);
  return is_percentage(document.units) ? percent(*shown) : figures_for(std::abs(*shown), figures.minus).plain(*shown);
}

std::optional<std::string> Teller::linked_base() const {
  const auto base = linked(document.units, document.base);
  if (!base || document.outputs > 2) return std::nullopt;
  // A prediction that its score does not give went through another link, such as softmax over several outputs.
  if (document.local && document.local->prediction) {
    const double prediction = *document.local->prediction;
    if (std::abs(*linked(document.units, document.local->score) - prediction) > 0.002 * std::max(1.0, prediction)) return std::nullopt;
  }
  return is_percentage(document.units) ? percent(*base) : figures_for(*base, figures.minus).plain(*base);
}

std::string Teller::conclusion() const {
  if (!document.local) return say("What matters for {}", "影响“{}”的因素", subject());
  return say("{}: {}", "{}：{}", subject(), prediction());
}

std::string Teller::conclusion_detail() const {
  const std::string units = say.term(document.units);
  std::string mean = say("{} is {}", "{}为 {}", base_name(), figures.plain(document.base));
  if (const auto base = linked_base()) mean += say(", which is {}", "，相当于 {}", *base);
  if (!document.local) return say("In {}; {}.", "单位：{}；{}。", units, mean);
  std::string detail = say("{} {}; {}", "{} {}；{}", units, figures.plain(document.local->score), mean);
  if (!document.local->actual.empty()) detail += say(". The data says: {}", "。数据中的实际值：{}", harmless(document.local->actual));
  return detail + say(".", "。");
}

std::string Teller::name_and_input(int node) const {
  const std::string name = fitted(harmless(document.nodes[node].name), 40), shown = document.local ? fitted(input(node), 30) : "";
  return shown.empty() ? name : name + " = " + shown;
}

std::string Teller::input(int node) const { return document.local->missing[node] ? say("missing", "缺失") : input_text(document.local->inputs[node]); }

std::string Teller::rows_explained() const {
  const std::string rows = base::with_commas(static_cast<uint64_t>(std::max<int64_t>(0, document.global->rows)));
  if (document.data_rows <= document.global->rows) return say("all {} rows", "全部 {} 行", rows);
  return say("{} of {} rows", "{1} 行中的 {0} 行", rows, base::with_commas(static_cast<uint64_t>(document.data_rows)));
}

std::vector<int> leaves_by_size(const Document& document, const std::vector<double>& column) {
  std::vector<int> leaves;
  for (size_t i = 0; i < document.nodes.size(); ++i) {
    if (document.nodes[i].feature >= 0) leaves.push_back(static_cast<int>(i));
  }
  std::stable_sort(leaves.begin(), leaves.end(), [&](int a, int b) { return std::abs(column[a]) > std::abs(column[b]); });
  return leaves;
}

void keep_strongest(const Document& document, const std::vector<double>& column, size_t count, std::vector<bool>& kept) {
  const std::vector<int> leaves = leaves_by_size(document, column);
  for (size_t i = 0; i < std::min(count, leaves.size()); ++i) {
    for (int node = leaves[i]; node >= 0 && !kept[node]; node = document.nodes[node].parent) kept[node] = true;
  }
  for (size_t i = 0; i < kept.size(); ++i) {
    const std::vector<int>& children = document.nodes[i].children;
    const auto left_out = [&](int child) { return !kept[child]; };
    if (!kept[i] || std::count_if(children.begin(), children.end(), left_out) != 1) continue;
    const int lone = *std::find_if(children.begin(), children.end(), left_out);
    if (document.nodes[lone].feature >= 0) kept[lone] = true;
  }
}

// "capital_gain = 5,178 (+0.61 ±0.02) and age = 39 (+0.35)": the strongest that move the score up, or down.
std::string Teller::movers(bool up) const {
  const ShownSample& sample = *document.local;
  std::vector<std::string> named;
  const std::vector<int> leaves = leaves_by_size(document, sample.values);
  for (const int leaf : leaves) {
    const double value = sample.values[leaf];
    if (named.size() == kNamed || std::abs(value) < kWorthNaming * std::abs(sample.values[leaves[0]])) break;
    if (value == 0 || (value > 0) != up || holds_zero(value, sample.half_widths[leaf])) continue;
    named.push_back(name_and_input(leaf) + say.bracketed(figures.with_bar(value, sample.half_widths[leaf])));
  }
  return say.list(named);
}

std::string Teller::uncertain(const std::vector<double>& values, const std::vector<double>& half_widths) const {
  std::vector<std::string> names;
  size_t count = 0;
  for (const int leaf : leaves_by_size(document, values)) {
    if (!holds_zero(values[leaf], half_widths[leaf])) continue;
    if (++count <= kNamedUncertain) names.push_back(fitted(harmless(document.nodes[leaf].name), 40));
  }
  if (count == 0) return "";
  if (count > kNamedUncertain) names.push_back(say("{} more", "另外 {} 个特征", count - kNamedUncertain));
  const std::string level = fmt::format("{:.4g}%", 100 * document.confidence);
  if (count == 1) return say("{} cannot be told apart from 0: its {} interval holds it.", "与 0 无法区分（{1} 置信区间包含 0）：{0}。", names[0], level);
  return say("{} cannot be told apart from 0: their {} intervals hold it.", "与 0 无法区分（{1} 置信区间包含 0）：{0}。", say.list(names), level);
}

std::vector<std::string> Teller::sample_sentences() const {
  const ShownSample& sample = *document.local;
  std::vector<std::string> sentences;
  const double distance = sample.score - document.base;
  const std::string side = distance < 0 ? say("below", "低于") : say("above", "高于");
  const auto base = linked_base();
  const bool told_apart = base && *base != prediction();  // two figures of "<0.01%" say nothing
  if (told_apart && document.units == "probability") {
    sentences.push_back(say("The model puts {0} at {1}, {2} {3} ({4}).", "对{0}，模型给出 {1}，{2}{3}（{4}）。", quoted_subject(), prediction(), side, base_name(), *base));
  } else if (told_apart) {
    sentences.push_back(say("The model puts {0} at {1}, {2} the {3} of the base value, {4}.", "对{0}，模型给出 {1}，{2}基准值（{4}）所对应的 {3}。", quoted_subject(), prediction(), side, *base, base_name()));
  } else {
    const std::string far = figures.plain(std::abs(distance)), away = distance < 0 ? say("{} below", "低 {}", far) : say("{} above", "高 {}", far);
    sentences.push_back(say("The model's score for {0} is {1}, {2} {3} ({4}).", "模型对{0}的得分为 {1}，比{3}（{4}）{2}。", quoted_subject(), figures.plain(sample.score), away, base_name(),
        figures.plain(document.base)));
  }
  if (const std::string up = movers(true); !up.empty()) sentences.push_back(say("Raised most by {}.", "主要拉高因素：{}。", up));
  if (const std::string down = movers(false); !down.empty()) sentences.push_back(say("Lowered most by {}.", "主要拉低因素：{}。", down));
  if (const std::string unsure = uncertain(sample.values, sample.half_widths); !unsure.empty()) sentences.push_back(unsure);
  for (const ShownInteraction& strongest : sample.interactions) {
    if (holds_zero(strongest.value, strongest.half_width) || strongest.value == 0) continue;
    sentences.push_back(say("Strongest interaction: {}{}; {}. It is a part of the values, not on top of them.", "最强交互作用：{}{}；{}。它属于归因值的一部分，并非额外叠加。", interaction_name(strongest),
                            say.bracketed(figures.with_bar(strongest.value, strongest.half_width)), interaction_sentence(strongest, false)));
    break;
  }
  return sentences;
}

std::vector<std::string> Teller::row_sentences() const {
  const ShownRows& rows = *document.global;
  std::vector<std::string> sentences, named, directions;
  const std::vector<int> leaves = leaves_by_size(document, rows.importance);
  double sum = 0;
  for (const int leaf : leaves) sum += rows.importance[leaf];
  for (size_t i = 0; i < std::min(kNamed, leaves.size()) && rows.importance[leaves[i]] > kWorthNaming * rows.importance[leaves[0]]; ++i) {
    const std::string name = fitted(harmless(document.nodes[leaves[i]].name), 40);
    named.push_back(say("{} ({}, {} of the sum)", "{}（{}，占总和的 {}）", name, mean_figures.with_bar(rows.importance[leaves[i]], rows.half_widths[leaves[i]]).substr(1),
        percent(rows.importance[leaves[i]] / sum)));
    if (std::string sentence = direction_sentence(leaves[i]); !sentence.empty()) directions.push_back(std::move(sentence));
  }
  if (!named.empty()) sentences.push_back(say("Over {}, these move the score most (mean absolute value, {}): {}.", "{}样本中，对得分影响最大的特征（平均绝对归因值，{}）：{}。",
      rows_explained(), say.term(document.units), say.list(named)));
  sentences.insert(sentences.end(), directions.begin(), directions.end());
  if (const std::string unsure = uncertain(rows.importance, rows.half_widths); !unsure.empty()) sentences.push_back(unsure);
  if (!rows.interactions.empty()) {
    const ShownInteraction& strongest = rows.interactions[0];
    sentences.push_back(say("Strongest interaction: {}{}.", "最强交互作用：{}{}。", interaction_name(strongest), say.bracketed(interaction_sentence(strongest, true))));
  }
  return sentences;
}

std::string Teller::interaction_name(const ShownInteraction& interaction) const {
  std::string name;
  for (const int node : interaction.nodes) name += (name.empty() ? "" : " × ") + fitted(harmless(document.nodes[node].name), 40);
  return name;
}

std::string Teller::interaction_sentence(const ShownInteraction& interaction, bool of_all_rows) const {
  if (holds_zero(interaction.value, interaction.half_width)) return say("cannot be told apart from 0", "与 0 无法区分");
  if (of_all_rows) return say("moves the score by {} on average", "平均使得分变动 {}", mean_figures.plain(interaction.value));
  const std::string size = figures.plain(std::abs(interaction.value));
  if (interaction.value < 0) return say("together they put the score {} below the sum of each alone", "它们共同作用使得分比各自作用之和低 {}", size);
  return say("together they put the score {} above the sum of each alone", "它们共同作用使得分比各自作用之和高 {}", size);
}

std::string Teller::interaction_hint(const ShownInteraction& interaction) const {
  if (holds_zero(interaction.value, interaction.half_width)) return say("cannot be told apart from 0", "与 0 无法区分");
  return interaction.value < 0 ? say("lower together than apart", "共同作用低于各自之和") : say("higher together than apart", "共同作用高于各自之和");
}

std::string Teller::others(int count) const { return count == 1 ? say("1 other feature", "其余 1 个特征") : say("{} other features", "其余 {} 个特征", count); }

}  // namespace deepseek::explain
