// Writes a document's reports for the tests of the page: write_page DOCUMENT.json LANGUAGE OUTPUT.html prints the text report and writes the page.
#include <cstdio>

#include "base/files.h"
#include "base/json.h"
#include "explain/report/page.h"
#include "explain/report/text_report.h"

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: write_page DOCUMENT.json LANGUAGE OUTPUT.html\n", stderr), 2;
  const auto document = deepseek::base::read_json_file(argv[1], size_t{256} << 20);
  if (!document) return std::fprintf(stderr, "%s\n", document.error().message.c_str()), 1;
  std::fputs(deepseek::explain::text_report(*document, argv[2]).c_str(), stdout);
  const auto page = deepseek::explain::html_page(*document, argv[2]);
  if (!page) return std::fprintf(stderr, "%s\n", page.error().message.c_str()), 1;
  const auto written = deepseek::base::write_file_atomically(argv[3], *page);
  if (!written) return std::fprintf(stderr, "%s\n", written.error().message.c_str()), 1;
}
