#include "train/report/vega.h"

#include "base/web_page.h"

#ifdef DEEPSEEK_VEGA_SCRIPT

DEEPSEEK_EMBED_FILE(deepseek_vega, DEEPSEEK_VEGA_SCRIPT)

namespace deepseek::train {
std::string_view vega_script() {
  return {deepseek_vega_begin, static_cast<size_t>(deepseek_vega_end - deepseek_vega_begin)};
}
}  // namespace deepseek::train

#else

namespace deepseek::train {
std::string_view vega_script() { return {}; }
}  // namespace deepseek::train

#endif
