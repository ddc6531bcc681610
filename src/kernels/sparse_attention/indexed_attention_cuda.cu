#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/sparse_attention/gpu_kernels.h"
#include "kernels/sparse_attention/tensor_core.cuh"

namespace deepseek::kernels {
namespace {

constexpr int kThreads = 128, kWarps = 4;
constexpr int kRows = 16;   // query heads of a block: the rows of a tensor core's tile
constexpr int kTile = 64;   // keys at a time
constexpr float kNone = -INFINITY;
// Rows of a tile that the list names; zeros where it names none. Columns up to the padding.
__device__ void gather(Half* to, int to_row, const Half* from, int64_t stride, int64_t dim, const int* keys) {
  const int chunks = (to_row - kPad) / 8;
  for (int i = threadIdx.x; i < kTile * chunks; i += kThreads) {
    const int row = i / chunks, column = i % chunks * 8;
    const bool any = keys[row] >= 0 && column < dim;
    copy_async(to + row * to_row + column, any ? from + keys[row] * stride + column : from, any);
  }
}

// kColumns: tiles of 8 value columns that a warp sums; the block has 32 * kColumns.
template <int kColumns, bool kValuesInKeys>
__global__ void __launch_bounds__(kThreads) attend(const GpuIndexedAttention c) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int width = padded(c.dim), value_width = 32 * kColumns + kPad;
  Half* q = reinterpret_cast<Half*>(memory);          // [kRows][width]
  Half* k = q + kRows * width;                        // [kTile][width]
  Half* v = kValuesInKeys ? k : k + kTile * width;    // [kTile][value_width]
  const int v_row = kValuesInKeys ? width : value_width;
  float* scores = reinterpret_cast<float*>(kValuesInKeys ? k + kTile * width : v + kTile * value_width);  // [kRows][kTile + 4]
  Half* p = reinterpret_cast<Half*>(scores + kRows * (kTile + 4));                                         // [kRows][kTile + kPad]
  float* fade = reinterpret_cast<float*>(p + kRows * (kTile + kPad));                                      // [kRows]
  int* keys = reinterpret_cast<int*>(fade + kRows);                                                        // [kTile]
  constexpr int kScoreRow = kTile + 4, kPRow = kTile + kPad;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t group = c.heads / c.kv_heads, head_blocks = (group + kRows - 1) / kRows;
  const int64_t query = blockIdx.x, head_block = blockIdx.y % head_blocks, kv_head = blockIdx.y / head_blocks % c.kv_heads, batch = blockIdx.y / head_blocks / c.kv_heads;
  const int64_t first_head = kv_head * group + head_block * kRows;
  const int rows = static_cast<int>(min(static_cast<int64_t>(kRows), group - head_block * kRows));
  const Half* k_rows = static_cast<const Half*>(c.k) + batch * c.k_strides[0] + kv_head * c.k_strides[1];
  const Half* v_rows = static_cast<const Half*>(c.v) + batch * c.v_strides[0] + kv_head * c.v_strides[1];
  const int32_t* list = c.keys + (batch * c.queries + query) * c.count;

  const int chunks = (width - kPad) / 8;
  for (int i = threadIdx.x; i < kRows * chunks; i += kThreads) {
    const int row = i / chunks, column = i % chunks * 8;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (row < rows && column < c.dim) {
      bits = *reinterpret_cast<const uint4*>(static_cast<const Half*>(c.q) + batch * c.q_strides[0] + (first_head + row) * c.q_strides[1] + query * c.q_strides[2] + column);
    }
    *reinterpret_cast<uint4*>(q + row * width + column) = bits;
  }

  float sums[kColumns][4] = {};
  constexpr int kOwn = kRows / kWarps;  // rows whose softmax a warp does
  float largest[kOwn], total[kOwn];
  for (int i = 0; i < kOwn; ++i) largest[i] = kNone, total[i] = 0;

  const int64_t tiles = (c.count + kTile - 1) / kTile, share = (tiles + c.splits - 1) / c.splits;
  const int64_t from = blockIdx.z * share, to = min(tiles, from + share);
  for (int64_t tile = from; tile < to; ++tile) {
    __syncthreads();  // the tile before is read
    bool mine = false;
    if (threadIdx.x < kTile) {
      const int64_t at = tile * kTile + threadIdx.x;
      const int key = at < c.count ? list[at] : -1;
      mine = key >= 0;
      keys[threadIdx.x] = key >= c.length ? -2 : key;  // a key that is not there shows as NaN
    }
    if (__syncthreads_or(mine) == 0) continue;
    gather(k, width, k_rows, c.k_strides[2], c.dim, keys);
    commit_copies();
    if (!kValuesInKeys) {
      gather(v, value_width, v_rows, c.v_strides[2], c.value_dim, keys);
      commit_copies();
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    __syncthreads();
    {  // scores of 16 keys
      float s[2][4] = {};
      for (int d = 0; d < width - kPad; d += 16) {
        uint32_t a[4];
        load_four(a, q + lane % 16 * width + d + lane / 16 * 8);
        for (int n = 0; n < 2; ++n) {
          uint32_t b[2];
          load_two(b, k + (warp * 16 + n * 8 + lane % 8) * width + d + lane / 8 % 2 * 8);
          multiply_add(s[n], a, b);
        }
      }
      for (int n = 0; n < 2; ++n) {
        for (int i = 0; i < 4; ++i) {
          const int row = lane / 4 + i / 2 * 8, key = warp * 16 + n * 8 + lane % 4 * 2 + i % 2;
          const float x = s[n][i] * c.scale;
          scores[row * kScoreRow + key] = keys[key] == -1 ? kNone : keys[key] == -2 ? NAN : x;
        }
      }
    }
    __syncthreads();
    for (int i = 0; i < kOwn; ++i) {
      const int row = warp * kOwn + i;
      const float x0 = scores[row * kScoreRow + lane], x1 = scores[row * kScoreRow + lane + 32];
      float most = fmaxf(x0, x1);
      for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
      const float next = fmaxf(largest[i], most), shift = next == kNone ? 0 : next;
      const float e0 = __expf(x0 - shift), e1 = __expf(x1 - shift);
      float sum = e0 + e1;
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      const float factor = __expf(largest[i] - shift);
      total[i] = total[i] * factor + sum;
      largest[i] = next;
      p[row * kPRow + lane] = __float2bfloat16(e0);
      p[row * kPRow + lane + 32] = __float2bfloat16(e1);
      if (lane == 0) fade[row] = factor;
    }
    wait_for_copies<0>();
    __syncthreads();
    const float upper = fade[lane / 4], lower = fade[lane / 4 + 8];
    uint32_t a[kTile / 16][4];
    for (int j = 0; j < kTile / 16; ++j) load_four(a[j], p + lane % 16 * kPRow + j * 16 + lane / 16 * 8);
    for (int n = 0; n < kColumns; ++n) {
      sums[n][0] *= upper, sums[n][1] *= upper, sums[n][2] *= lower, sums[n][3] *= lower;
      for (int j = 0; j < kTile / 16; ++j) {
        uint32_t b[2];
        load_two_transposed(b, v + (j * 16 + lane % 16) * v_row + (warp * kColumns + n) * 8);
        multiply_add(sums[n], a[j], b);
      }
    }
  }

  __syncthreads();
  float* facts = scores;  // [kRows][2]: largest, total
  if (lane == 0) {
    for (int i = 0; i < kOwn; ++i) {
      facts[(warp * kOwn + i) * 2] = largest[i];
      facts[(warp * kOwn + i) * 2 + 1] = total[i];
    }
  }
  __syncthreads();
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + half * 8;
    if (row >= rows) continue;
    const float sum = facts[row * 2 + 1], factor = c.splits > 1 ? 1.0f : sum == 0 ? 0.0f : 1 / sum;
    const int64_t at = (batch * c.heads + first_head + row) * c.queries + query;
    for (int n = 0; n < kColumns; ++n) {
      for (int i = 0; i < 2; ++i) {
        const int column = (warp * kColumns + n) * 8 + lane % 4 * 2 + i;
        if (column >= c.value_dim) continue;
        const float x = sums[n][half * 2 + i] * factor;
        if (c.splits > 1) c.parts[(blockIdx.z * c.batch * c.heads * c.queries + at) * (c.value_dim + 2) + column] = x;
        else static_cast<Half*>(c.out)[at * c.value_dim + column] = __float2bfloat16(x);
      }
    }
  }
  if (threadIdx.x < rows) {
    const float most = facts[threadIdx.x * 2], sum = facts[threadIdx.x * 2 + 1];
    const int64_t at = (batch * c.heads + first_head + threadIdx.x) * c.queries + query;
    if (c.splits > 1) {
      float* part = c.parts + (blockIdx.z * c.batch * c.heads * c.queries + at) * (c.value_dim + 2) + c.value_dim;
      part[0] = most, part[1] = sum;
    } else {
      c.log_sum_exp[at] = most == kNone ? kNone : most + __logf(sum);
    }
  }
}

// One block for each row: the splits' sums, in order.
__global__ void combine(const GpuIndexedAttention c) {
  const int64_t at = blockIdx.x, rows = c.batch * c.heads * c.queries, size = c.value_dim + 2;
  const float* parts = c.parts + at * size;
  float most = kNone, total = 0;
  for (int64_t s = 0; s < c.splits; ++s) most = fmaxf(most, parts[s * rows * size + c.value_dim]);
  const float shift = most == kNone ? 0 : most;
  for (int64_t s = 0; s < c.splits; ++s) total += parts[s * rows * size + c.value_dim + 1] * __expf(parts[s * rows * size + c.value_dim] - shift);
  const float factor = total == 0 ? 0 : 1 / total;
  for (int64_t column = threadIdx.x; column < c.value_dim; column += blockDim.x) {
    float sum = 0;
    for (int64_t s = 0; s < c.splits; ++s) sum += parts[s * rows * size + column] * __expf(parts[s * rows * size + c.value_dim] - shift);
    static_cast<Half*>(c.out)[at * c.value_dim + column] = __float2bfloat16(sum * factor);
  }
  if (threadIdx.x == 0) c.log_sum_exp[at] = most == kNone ? kNone : most + __logf(total);
}

int64_t head_blocks(const GpuIndexedAttention& c) { return (c.heads / c.kv_heads + kRows - 1) / kRows; }

template <int kColumns, bool kValuesInKeys>
const char* launch(const GpuIndexedAttention& c) {
  const size_t width = static_cast<size_t>(padded(c.dim)), value_width = kValuesInKeys ? 0 : 32 * kColumns + kPad;
  const size_t bytes = 2 * (kRows * width + kTile * width + kTile * value_width) + 4 * kRows * (kTile + 4) + 2 * kRows * (kTile + kPad) + 4 * kRows + 4 * kTile;
  const auto stream = static_cast<cudaStream_t>(c.stream);
  if (const auto error = cudaFuncSetAttribute(attend<kColumns, kValuesInKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)); error != cudaSuccess) {
    return cudaGetErrorString(error);
  }
  const dim3 grid(static_cast<unsigned>(c.queries), static_cast<unsigned>(c.batch * c.kv_heads * head_blocks(c)), static_cast<unsigned>(c.splits));
  attend<kColumns, kValuesInKeys><<<grid, kThreads, bytes, stream>>>(c);
  if (c.splits > 1) combine<<<static_cast<unsigned>(c.batch * c.heads * c.queries), kThreads, 0, stream>>>(c);
  const auto error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <int kColumns>
const char* launch_with(const GpuIndexedAttention& c) {
  // A latent's values are the first columns of its keys.
  const bool inside = c.k == c.v && c.value_dim <= c.dim && std::equal(c.k_strides, c.k_strides + 3, c.v_strides) && 32 * kColumns <= padded(c.dim) - kPad;
  return inside ? launch<kColumns, true>(c) : launch<kColumns, false>(c);
}

}  // namespace

GpuFacts gpu_facts(int device) {
  GpuFacts facts;
  cudaDeviceGetAttribute(&facts.major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&facts.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return facts;
}

int64_t gpu_splits(const GpuIndexedAttention& c, int64_t multiprocessors) {
  const int64_t blocks = c.queries * c.batch * c.kv_heads * head_blocks(c), tiles = (c.count + kTile - 1) / kTile;
  return std::clamp<int64_t>(2 * multiprocessors / std::max<int64_t>(blocks, 1), 1, std::max<int64_t>(1, tiles / 2));
}

const char* launch_indexed_attention(const GpuIndexedAttention& c) {
  if (c.value_dim <= 64) return launch_with<2>(c);
  if (c.value_dim <= 128) return launch_with<4>(c);
  if (c.value_dim <= 256) return launch_with<8>(c);
  return launch_with<16>(c);
}

}  // namespace deepseek::kernels
