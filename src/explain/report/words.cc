#include "explain/report/words.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <array>
#include <cmath>

#include "base/text.h"

namespace deepseek::explain {
namespace {

struct Term {
  const char *text, *english, *chinese;  // english nullptr: as it stands
};

constexpr std::array kTerms = {
    Term{"log-odds", nullptr, "对数几率"},
    Term{"probability", nullptr, "概率"},
    Term{"score", nullptr, "得分"},
    Term{"log-probability", nullptr, "对数概率"},
    Term{"log", "log of the prediction", "预测值的对数"},
    Term{"enumeration of all coalitions", nullptr, "枚举全部联盟"},
    Term{"trees, path dependent", nullptr, "树模型精确算法，路径依赖"},
    Term{"trees, interventional", nullptr, "树模型精确算法，干预式"},
    Term{"linear", nullptr, "线性模型的解析式"},
    Term{"integrated gradients", nullptr, "积分梯度"},
    Term{"expected gradients", nullptr, "期望梯度"},
    Term{"estimate from sampled coalitions", nullptr, "由抽样联盟估计"},
    Term{"marginal", "marginal: a feature that is left out takes its values from the background rows", "边际：缺席的特征取背景数据集中的值"},
    Term{"path dependent", "path dependent: a feature that is left out follows the training rows down the trees", "路径依赖：缺席的特征按训练样本在树中的分布取值"},
    Term{"conditional", "conditional: a feature that is left out takes values that go with the others", "条件期望：缺席的特征按其余特征给定时的条件分布取值"},
    Term{"baseline", "baseline: a feature that is left out takes the value of the baseline", "基线：缺席的特征取基线值"},
    Term{"taken out", "taken out: a word that is left out is not in the prompt", "删除：缺席的词不在提示中"},
    Term{"filled", "filled: a filler stands where words are left out", "填充：缺席的词由填充文本代替"},
    Term{"blurred", "blurred: a region that is left out is blurred", "模糊：缺席的区域经过模糊处理"},
    Term{"mean colour", "mean colour: a region that is left out has the image's mean colour", "均色：缺席的区域取图像的平均颜色"},
    Term{"Shapley", "Shapley values", "Shapley 值"},
    Term{"Winter", "Winter values: groups share first, then the members within each", "Winter 值：先在组间分配，再在组内成员间分配"},
    Term{"SII", "SII (Shapley interaction index)", "SII（Shapley 交互指数）"},
    Term{"k-SII", "k-SII (pairs that add up with the features' own parts)", "k-SII（与各特征自身部分相加等于总和的成对指数）"},
    Term{"Faith-SHAP", "Faith-SHAP (best fit of pairs to the model)", "Faith-SHAP（对模型最忠实的成对拟合）"},
};

std::string grouped(std::string digits) {
  const size_t point = std::min(digits.find('.'), digits.size());
  for (size_t at = point; at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

bool is_bidi_control(UChar32 c) { return c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069); }

}  // namespace

std::string Words::list(const std::vector<std::string>& items) const {
  std::string result;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) result += i + 1 == items.size() ? (*this)(" and ", "、") : (*this)(", ", "、");
    result += items[i];
  }
  return result;
}

std::string Words::term(const std::string& text) const {
  for (const Term& term : kTerms) {
    if (text == term.text) return language == Language::kChinese ? term.chinese : term.english ? term.english : term.text;
  }
  return harmless(text);
}

std::string Words::bracketed(const std::string& text) const { return (*this)(" ({})", "（{}）", text); }

int Figures::decimals_for(double greatest) {
  if (!(greatest > 0) || !std::isfinite(greatest)) return 2;
  return std::clamp(2 - static_cast<int>(std::floor(std::log10(greatest))), 0, 8);
}

std::string Figures::plain(double x) const {
  const double size = std::abs(x);
  if (size == 0) return "0";
  std::string digits = size >= 1e12 ? fmt::format("{:.3g}", size) : grouped(fmt::format("{:.{}f}", size, decimals));
  if (digits.find_first_not_of("0.") == std::string::npos) digits = size < 1e-9 ? fmt::format("{:.0e}", size) : fmt::format("{:.{}f}", size, static_cast<int>(std::ceil(-std::log10(size))));
  return (x < 0 ? minus : "") + digits;
}

std::string Figures::with_sign(double x) const { return (x > 0 ? "+" : "") + plain(x); }

std::string Figures::with_bar(double x, double half_width) const { return with_sign(x) + (half_width > 0 ? " ±" + plain(half_width) : ""); }

std::string percent(double probability) {
  const double p = 100 * probability;
  if (p > 0 && p < 0.01) return "<0.01%";
  if (p < 100 && p > 99.99) return ">99.99%";
  const bool near_end = p < 1 || p > 99;
  return fmt::format("{:.{}f}%", p, near_end ? 2 : 1);
}

std::string input_text(const nlohmann::ordered_json& input) {
  if (input.is_string()) return harmless(input.get<std::string>());
  if (!input.is_number()) return "";
  const double x = input.get<double>();
  if (x == std::floor(x) && std::abs(x) < 1e15) return (x < 0 ? "-" : "") + (std::abs(x) < 10000 ? fmt::format("{:.0f}", std::abs(x)) : base::with_commas(static_cast<uint64_t>(std::abs(x))));
  return fmt::format("{:.4g}", x);
}

std::string harmless(std::string_view text) {
  const std::string valid = base::to_valid_utf8(text);
  std::string result;
  const auto* bytes = reinterpret_cast<const uint8_t*>(valid.data());
  for (int32_t at = 0, size = static_cast<int32_t>(valid.size()); at < size;) {
    const int32_t from = at;
    UChar32 c = 0;
    U8_NEXT(bytes, at, size, c);
    if (c == '\n') result += "\\n";
    else if (c == '\t') result += "\\t";
    else if (u_charType(c) == U_CONTROL_CHAR || is_bidi_control(c) || c == 0x2028 || c == 0x2029) result += fmt::format("\\u{{{:x}}}", static_cast<uint32_t>(c));
    else result.append(valid, from, at - from);
  }
  const size_t first = result.find_first_not_of(' ');
  if (first == std::string::npos) return std::string(result.empty() ? "" : "␣");
  return result.substr(first, result.find_last_not_of(' ') - first + 1);
}

namespace {

int columns_of_code_point(UChar32 c) {
  const int type = u_charType(c);
  if (type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK || type == U_FORMAT_CHAR) return 0;
  const int width = u_getIntPropertyValue(c, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

}  // namespace

int columns_of(std::string_view text) {
  int columns = 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (int32_t at = 0, size = static_cast<int32_t>(text.size()); at < size;) {
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(bytes, at, size, c);
    columns += columns_of_code_point(c);
  }
  return columns;
}

std::string fitted(const std::string& text, int columns) {
  if (columns_of(text) <= columns) return text;
  int used = 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (int32_t at = 0, size = static_cast<int32_t>(text.size()); at < size;) {
    const int32_t from = at;
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(bytes, at, size, c);
    used += columns_of_code_point(c);
    if (used > columns - 1) return text.substr(0, from) + "…";
  }
  return text;
}

}  // namespace deepseek::explain
