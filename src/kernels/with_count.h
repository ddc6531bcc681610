// A number known when the program runs becomes one known to the compiler. In an unnamed namespace: what is compiled for an instruction set stays in its file.
#pragma once

#include <cstdint>

namespace deepseek::kernels {
namespace {

/// Calls body.operator()<n>() for 1 <= n <= Most.
template <int Most, typename Body>
void with_count(int64_t n, const Body& body) {
  if constexpr (Most > 1) {
    if (n < Most) return with_count<Most - 1>(n, body);
  }
  body.template operator()<Most>();
}

}  // namespace
}  // namespace deepseek::kernels
