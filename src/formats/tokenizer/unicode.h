// UTF-8 and the Unicode properties that tokenizers ask for.
#pragma once

#include <unicode/uchar.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek::formats {

/// Bytes of the character that begins with `lead` in well-formed UTF-8.
inline size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
/// The character at text[at], which is well-formed; `at` moves behind it.
char32_t next_character(std::string_view text, size_t& at);
void append_utf8(std::string& out, char32_t c);
[[nodiscard]] std::u32string to_utf32(std::string_view text);

inline uint32_t category_mask(char32_t c) { return U_MASK(u_charType(static_cast<UChar32>(c))); }
inline bool is_white_space(char32_t c) { return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE) != 0; }
inline bool is_mark(char32_t c) { return (category_mask(c) & U_GC_M_MASK) != 0; }
inline bool is_numeric(char32_t c) { return (category_mask(c) & U_GC_N_MASK) != 0; }
/// The category as Unicode 8 had it, which is what `tokenizers` asks for marks, punctuation and control characters; 0 for later ones.
uint32_t category_mask_unicode8(char32_t c);
/// BERT's: every ASCII sign that is no letter, digit or blank, and Unicode's punctuation.
bool is_bert_punctuation(char32_t c);
/// `\w` of Rust's regex crate.
bool is_word(char32_t c);

/// form: "nfc", "nfd", "nfkc", "nfkd".
[[nodiscard]] std::string normalized(std::string_view text, const char* form);
/// Character by character, without context, as Rust's char::to_lowercase.
[[nodiscard]] std::string lowercased(std::string_view text);

}  // namespace deepseek::formats
