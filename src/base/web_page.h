// Web pages in one file: text made harmless, and files of the build that the program carries.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace deepseek::base {

/// Text between tags or in an attribute; ill-formed UTF-8 becomes U+FFFD, control characters but line ends and tabs go.
[[nodiscard]] std::string escape_html(std::string_view text);

/// JSON inside a script element: no "<" of its text may end the element.
[[nodiscard]] std::string script_json(const nlohmann::ordered_json& json);

}  // namespace deepseek::base

/// At namespace scope of one file: the bytes of the file `path`, a string literal, lie from `name`_begin to `name`_end. The assembler copies them: a C++ literal of a
/// megabyte would take the compiler many seconds.
#define DEEPSEEK_EMBED_FILE(name, path)                                          \
  __asm__(                                                                       \
      ".pushsection .rodata\n"                                                   \
      ".global " #name "_begin\n" #name "_begin:\n"                              \
      ".incbin \"" path "\"\n"                                                   \
      ".global " #name "_end\n" #name "_end:\n"                                  \
      ".byte 0\n"                                                                \
      ".popsection\n");                                                          \
  extern "C" {                                                                   \
  __attribute__((visibility("hidden"))) extern const char name##_begin[];        \
  __attribute__((visibility("hidden"))) extern const char name##_end[];          \
  }
