// What the programs in this folder share.
#pragma once

#include <stdexcept>
#include <utility>

#include "base/result.h"

namespace deepseek::bench {

/// The value, or an exception with the error's sentence.
template <typename T>
T sure(base::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace deepseek::bench
