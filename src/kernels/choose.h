// Which implementation of a kernel runs: the first of its list that does not decline, or the one that DEEPSEEK_FORCE_KERNEL names.
#pragma once

#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace deepseek::kernels {

/// `asked` is what declines() is asked about. Errors: an unknown name, one that declines.
template <typename Kernel, typename... Asked>
base::Result<const Kernel*> choose_kernel(std::span<const Kernel> kernels, const Asked&... asked) {
  const char* variable = std::getenv("DEEPSEEK_FORCE_KERNEL");
  const std::string_view forced = variable == nullptr ? "" : variable;
  std::string names;
  for (const auto& kernel : kernels) {
    names += (names.empty() ? "" : ", ") + std::string(kernel.name);
    if (!forced.empty() && forced != kernel.name) continue;
    const std::string reason = kernel.declines(asked...);
    if (reason.empty()) return &kernel;
    if (!forced.empty()) return base::refuse("DEEPSEEK_FORCE_KERNEL={}: {}", forced, reason);
  }
  return base::refuse("DEEPSEEK_FORCE_KERNEL={} is unknown; there are {}", forced, names);
}

}  // namespace deepseek::kernels
