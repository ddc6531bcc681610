// Errors as values for everything that comes from outside: files, network, options.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace deepseek::base {

enum class ErrorKind {
  kFailed,   ///< The work failed (exit code 1): unreadable file, full disk, lost connection.
  kRequest,  ///< The request was wrong (exit code 2): misspelt option, absurd value.
};

/// One clear sentence: what was wrong, where, and what to do.
struct Error {
  std::string message;
  ErrorKind kind = ErrorKind::kFailed;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail("{}: header of {} bytes is longer than the file", path, size);`
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
  return tl::make_unexpected(Error{fmt::format(format, std::forward<Args>(args)...), ErrorKind::kFailed});
}

/// As fail(), for a request that cannot be met as it was asked.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> refuse(fmt::format_string<Args...> format, Args&&... args) {
  return tl::make_unexpected(Error{fmt::format(format, std::forward<Args>(args)...), ErrorKind::kRequest});
}

/// Puts where it happened in front of an error: `return within("config.json", result.error());`
[[nodiscard]] inline tl::unexpected<Error> within(const std::string& where, Error error) {
  error.message = where + ": " + error.message;
  return tl::make_unexpected(std::move(error));
}

/// Hands an error on unchanged: `if (!x) return pass(x);`
template <typename T>
[[nodiscard]] tl::unexpected<Error> pass(Result<T>& result) {
  return tl::make_unexpected(std::move(result.error()));
}

}  // namespace deepseek::base
