// A short sequence beside the reference, before the first use of tiles.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/paged_attention/implementations.h"

namespace deepseek::kernels {
namespace {

constexpr int64_t kPositions = 100;  // a whole page and part of one

std::vector<float> attend(const AttentionKernel& kernel, const KvPool& pool, std::span<const int32_t> pages, const std::vector<float>& q) {
  const AttentionSequence sequence[] = {{pages, 0, kPositions, 0}};
  PagedAttention attention;
  attention.plan(sequence, pool, {.heads = 1, .scale = 0.5f}, 1);
  std::vector<float> out(q.size());
  for (int64_t i = 0; i < attention.items(); ++i) attention.run(i, kernel, pool, 0, q.data(), out.data());
  return out;
}

}  // namespace

bool agrees_with_reference(const AttentionKernel& kernel) {
  for (const int64_t dim : {48, 64}) {
    auto pool = KvPool::create(1, 1, dim, 2);
    if (!pool) return false;
    const std::vector<int32_t> pages = {*pool->take(), *pool->take()};
    // Values below 1 in size, of no period that a tile has.
    const auto wave = [](int64_t i) { return std::sin(static_cast<float>(i * i % 1009)); };
    std::vector<float> q(static_cast<size_t>(kPositions * dim)), key(static_cast<size_t>(dim)), value(static_cast<size_t>(dim));
    for (size_t i = 0; i < q.size(); ++i) q[i] = wave(static_cast<int64_t>(i));
    for (int64_t t = 0; t < kPositions; ++t) {
      for (int64_t d = 0; d < dim; ++d) {
        key[static_cast<size_t>(d)] = wave(3 * t * dim + d);
        value[static_cast<size_t>(d)] = wave(t * dim + 7 * d);
      }
      pool->store(0, 0, pages[static_cast<size_t>(t / kPageTokens)], t % kPageTokens, key.data(), value.data());
    }
    static constexpr AttentionKernel kReference{"reference", nullptr, attend_reference, estimate_portable};
    const auto expected = attend(kReference, *pool, pages, q), got = attend(kernel, *pool, pages, q);
    // Each rounds a weight by 2^-9 of itself, and values are below 1. A NaN is no agreement.
    const bool agree = std::equal(got.begin(), got.end(), expected.begin(), [](float a, float b) { return std::abs(a - b) <= 0x1p-7f; });
    if (!agree) return false;
  }
  return true;
}

}  // namespace deepseek::kernels
