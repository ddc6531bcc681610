#include "explain/report/page.h"

#include <string_view>

#include "explain/report/page_data.h"
#include "explain/report/text_report.h"

#ifdef DEEPSEEK_PAGE_TEMPLATE

// The assembler copies the file: a C++ literal of a megabyte would take the compiler many seconds.
__asm__(
    ".pushsection .rodata\n"
    ".global deepseek_page_begin\n"
    "deepseek_page_begin:\n"
    ".incbin \"" DEEPSEEK_PAGE_TEMPLATE
    "\"\n"
    ".global deepseek_page_end\n"
    "deepseek_page_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
__attribute__((visibility("hidden"))) extern const char deepseek_page_begin[];
__attribute__((visibility("hidden"))) extern const char deepseek_page_end[];
}

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

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') result += "&amp;";
    else if (c == '<') result += "&lt;";
    else if (c == '>') result += "&gt;";
    else if (c == '"') result += "&quot;";
    else result += c;
  }
  return result;
}

// JSON inside a script element: no "<" of its text may end the element.
std::string embedded_json(const nlohmann::ordered_json& json) {
  std::string result;
  for (const char c : json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace)) {
    if (c == '<') result += "\\u003c";
    else result += c;
  }
  return result;
}

}  // namespace

bool has_page() { return !page_template().empty(); }

base::Result<std::string> html_page(const nlohmann::ordered_json& explanation, const std::string& language) {
  if (!has_page()) return base::fail("this build carries no page: configure it with npm installed and DEEPSEEK_PAGES=ON, or write the report as text");
  auto document = read_document(explanation);
  if (!document) return base::pass(document);
  const nlohmann::ordered_json data = page_data(*document, language);
  const std::string shown = data["language"], title = data["texts"][shown]["conclusion"];
  const std::pair<std::string_view, std::string> places[] = {
      {kLanguage, shown == "zh" ? "zh-CN" : "en"}, {kTitle, escaped(title)}, {kText, escaped(text_report(explanation, language))}, {kData, embedded_json(data)}};
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
