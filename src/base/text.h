// Small text helpers for messages: nearest spelling, sizes and durations a person reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek::base {

/// The candidate nearest to `word` by edit distance, or "" where none is near enough to be meant.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "; is 'age' meant?" for the end of a message, by nearest(); "" where none is near.
[[nodiscard]] std::string is_meant(std::string_view word, const std::vector<std::string>& candidates);

/// "1.5 GiB", "312 KiB", "17 B".
[[nodiscard]] std::string human_bytes(uint64_t bytes);

/// "1:05", "2:03:07".
[[nodiscard]] std::string human_duration(double seconds);

/// "1,234,567".
[[nodiscard]] std::string with_commas(uint64_t value);

/// True where `text` is well-formed UTF-8.
[[nodiscard]] bool is_utf8(std::string_view text);

/// Line, from 1, of the first ill-formed UTF-8; the last line where there is none.
[[nodiscard]] size_t line_of_ill_formed(std::string_view text);

/// `text` with each ill-formed UTF-8 sequence replaced by U+FFFD (maximal subparts, as Python and Rust do).
[[nodiscard]] std::string to_valid_utf8(std::string_view text);

}  // namespace deepseek::base
