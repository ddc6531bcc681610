#include <cuda_runtime.h>

#include "kernels/sparse_attention/gpu_kernels.h"
#include "kernels/sparse_attention/tensor_core.cuh"

namespace deepseek::kernels {
namespace {

constexpr int kThreads = 128, kWarps = 4;
constexpr int kTile = 128;    // keys of a block, 32 of them a warp's, in registers while queries pass by
constexpr int kQueries = 16;  // of a block

// rows * dim elements that lie one behind the other, into padded rows; zeros behind the last.
template <int kDim>
__device__ void fetch(Half* to, const Half* from, int rows, int all_rows) {
  for (int i = threadIdx.x; i < all_rows * (kDim / 8); i += kThreads) {
    const int row = i / (kDim / 8), column = i % (kDim / 8) * 8;
    copy_async(to + row * (kDim + kPad) + column, row < rows ? from + row * kDim + column : from, row < rows);
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) score(const GpuIndexScores c) {
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kRow = kDim + kPad, kSteps = kDim / 16;
  const int heads = static_cast<int>((c.heads + 7) / 8 * 8);
  Half* k = reinterpret_cast<Half*>(memory);                       // [kTile][kRow]
  Half* q = k + kTile * kRow;                                      // [2][heads][kRow]
  float* weights = reinterpret_cast<float*>(q + 2 * heads * kRow);  // [2][heads]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t first_key = blockIdx.x * static_cast<int64_t>(kTile), first = blockIdx.y * static_cast<int64_t>(kQueries), batch = blockIdx.z;
  const int queries = static_cast<int>(min(static_cast<int64_t>(kQueries), c.queries - first));
  const auto seen = [&](int64_t query) { return c.causal ? c.visible + query : c.keys; };
  float* out = c.out + (batch * c.queries + first) * c.keys;
  if (first_key >= seen(first + queries - 1)) {
    for (int query = 0; query < queries; ++query) {
      if (first_key + threadIdx.x < c.keys) out[query * c.keys + first_key + threadIdx.x] = -INFINITY;
    }
    return;
  }

  const auto fetch_query = [&](int query) {
    const int64_t row = batch * c.queries + first + query;
    fetch<kDim>(q + query % 2 * heads * kRow, static_cast<const Half*>(c.q) + row * c.heads * kDim, static_cast<int>(c.heads), heads);
    for (int j = threadIdx.x; j < heads; j += kThreads) weights[query % 2 * heads + j] = j < c.heads ? c.weights[row * c.heads + j] : 0;
    commit_copies();
  };
  fetch<kDim>(k, static_cast<const Half*>(c.k) + (batch * c.keys + first_key) * kDim, static_cast<int>(min(static_cast<int64_t>(kTile), c.keys - first_key)), kTile);
  fetch_query(0);
  wait_for_copies<0>();
  __syncthreads();
  uint32_t a[2][kSteps][4];
  for (int m = 0; m < 2; ++m) {
    for (int step = 0; step < kSteps; ++step) load_four(a[m][step], k + (warp * 32 + m * 16 + lane % 16) * kRow + step * 16 + lane / 16 * 8);
  }
  for (int query = 0; query < queries; ++query) {
    if (query + 1 < queries) {
      fetch_query(query + 1);
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    __syncthreads();
    const Half* rows = q + query % 2 * heads * kRow;
    const float* factors = weights + query % 2 * heads;
    float sums[2][2] = {};
    for (int n = 0; n < heads; n += 8) {
      float x[2][4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; step += 2) {
        uint32_t b[4];
        load_four(b, rows + (n + lane % 8) * kRow + step * 16 + lane / 8 * 8);
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
        for (int m = 0; m < 2; ++m) {
          multiply_add(x[m], a[m][step], low);
          multiply_add(x[m], a[m][step + 1], high);
        }
      }
      const float w0 = factors[n + lane % 4 * 2], w1 = factors[n + lane % 4 * 2 + 1];
      const auto part = [](float w, float value) { return w * (value < 0 ? 0.0f : value); };  // NaN stays
      for (int m = 0; m < 2; ++m) {
        sums[m][0] += part(w0, x[m][0]) + part(w1, x[m][1]);
        sums[m][1] += part(w0, x[m][2]) + part(w1, x[m][3]);
      }
    }
    for (int m = 0; m < 2; ++m) {
      for (int half = 0; half < 2; ++half) {
        float sum = sums[m][half];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const int64_t key = first_key + warp * 32 + m * 16 + half * 8 + lane / 4;
        if (lane % 4 == 0 && key < c.keys) out[query * c.keys + key] = key < seen(first + query) ? sum : -INFINITY;
      }
    }
    __syncthreads();  // before the copies after the next overwrite this query's rows
  }
}

template <int kDim>
const char* launch(const GpuIndexScores& c) {
  const size_t heads = static_cast<size_t>((c.heads + 7) / 8 * 8), bytes = 2 * (kTile + 2 * heads) * (kDim + kPad) + 2 * heads * 4;
  if (const auto error = cudaFuncSetAttribute(score<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)); error != cudaSuccess) return cudaGetErrorString(error);
  const dim3 grid(static_cast<unsigned>((c.keys + kTile - 1) / kTile), static_cast<unsigned>((c.queries + kQueries - 1) / kQueries), static_cast<unsigned>(c.batch));
  score<kDim><<<grid, kThreads, bytes, static_cast<cudaStream_t>(c.stream)>>>(c);
  const auto error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

const char* launch_index_scores(const GpuIndexScores& c) { return c.dim == 64 ? launch<64>(c) : launch<128>(c); }

}  // namespace deepseek::kernels
