#include "explain/report/page.h"

#include <string_view>

#include "base/web_page.h"
#include "explain/report/page_data.h"
#include "explain/report/text_report.h"

#ifdef DEEPSEEK_PAGE_TEMPLATE

DEEPSEEK_EMBED_FILE(deepseek_page, DEEPSEEK_PAGE_TEMPLATE)

namespace deepseek::explain {
namespace {
std::string_view page_template() { return {deepseek_page_begin, static_cast<size_t>(deepseek_page_end - deepseek_page_begin)}; }
}  // namespace

#else

namespace deepseek::explain {
namespace {
std::string_view page_template() { return {}; }
}  // namespace

#endif

namespace {

// The places in the template, in their order.
constexpr std::string_view kLanguage = "%LANGUAGE%", kTitle = "%TITLE%", kText = "%TEXT%", kData = "%DATA%";

}  // namespace

bool has_page() { return !page_template().empty(); }

base::Result<std::string> html_page(const nlohmann::ordered_json& explanation, const std::string& language) {
  if (!has_page()) return base::fail("this build carries no page: configure it with npm installed and DEEPSEEK_PAGES=ON, or write the report as text");
  auto document = read_document(explanation);
  if (!document) return base::pass(document);
  const nlohmann::ordered_json data = page_data(*document, language);
  const std::string shown = data["language"], title = data["texts"][shown]["conclusion"];
  const std::pair<std::string_view, std::string> places[] = {
      {kLanguage, shown == "zh" ? "zh-CN" : "en"}, {kTitle, base::escape_html(title)}, {kText, base::escape_html(text_report(explanation, language))}, {kData, base::script_json(data)}};
  std::string page;
  std::string_view rest = page_template();
  for (const auto& [place, text] : places) {
    const size_t at = rest.find(place);
    if (at == std::string_view::npos) return base::fail("the page's template lacks {}: build it anew", place);
    page.append(rest.substr(0, at)).append(text);
    rest.remove_prefix(at + place.size());
  }
  return page.append(rest);
}

}  // namespace deepseek::explain
