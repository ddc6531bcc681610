#include "train/report/vega.h"

#ifdef DEEPSEEK_VEGA_SCRIPT

// The assembler copies the file: a C++ literal of a megabyte would take the compiler many seconds.
__asm__(
    ".pushsection .rodata\n"
    ".global deepseek_vega_begin\n"
    "deepseek_vega_begin:\n"
    ".incbin \"" DEEPSEEK_VEGA_SCRIPT
    "\"\n"
    ".global deepseek_vega_end\n"
    "deepseek_vega_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
__attribute__((visibility("hidden"))) extern const char deepseek_vega_begin[];
__attribute__((visibility("hidden"))) extern const char deepseek_vega_end[];
}

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
