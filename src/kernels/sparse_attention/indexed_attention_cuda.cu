#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/sparse_attention/gpu_kernels.h"
#include "kernels/sparse_attention/tensor_core.cuh"

namespace deepseek::kernels {
namespace {

constexpr int kTile = 64;  // keys at a time
constexpr float kNone = -INFINITY;

// Work of a thread block: 16 kBlocks query heads, whose value columns its warps share, kColumns tiles of 8 each.
template <int kColumnsOfWarp, int kTilesOfHeads, int kWarpsOfBlock, bool kInside>
struct Plan {
  static constexpr int kColumns = kColumnsOfWarp, kBlocks = kTilesOfHeads, kWarps = kWarpsOfBlock;
  static constexpr bool kValuesInKeys = kInside;  // a latent's values are the first columns of its keys
  static constexpr int kRows = 16 * kBlocks, kThreads = 32 * kWarps, kValueColumns = 8 * kColumns * kWarps;
};
// Value columns of a block, in multiples of 64.
int64_t eighths(const GpuIndexedAttention& c) { return c.value_dim <= 64 ? 1 : c.value_dim <= 128 ? 2 : c.value_dim <= 256 ? 4 : 8; }
bool values_in_keys(const GpuIndexedAttention& c) {
  return c.k == c.v && c.value_dim <= c.dim && std::equal(c.k_strides, c.k_strides + 3, c.v_strides) && 64 * eighths(c) <= padded(c.dim) - kPad;
}
int64_t shared_bytes(const GpuIndexedAttention& c, int64_t rows) {
  const int64_t width = padded(c.dim), value_width = values_in_keys(c) ? 0 : 64 * eighths(c) + kPad;
  return 2 * (rows * width + kTile * width + kTile * value_width) + 4 * rows * (kTile + 4) + 2 * rows * (kTile + kPad) + 4 * rows + 4 * kTile;
}
// Many heads that share their keys gather them once for 64; fewer would leave most of that empty.
int64_t rows_of(const GpuIndexedAttention& c) { return c.heads / c.kv_heads > 16 && shared_bytes(c, 64) <= c.shared_memory ? 64 : 16; }

// Rows of a tile that the list names; zeros where it names none. Columns up to the padding.
__device__ void gather(Half* to, int to_row, const Half* from, int64_t stride, int64_t dim, const int* keys) {
  const int chunks = (to_row - kPad) / 8;
  for (int i = threadIdx.x; i < kTile * chunks; i += static_cast<int>(blockDim.x)) {
    const int row = i / chunks, column = i % chunks * 8;
    const bool any = keys[row] >= 0 && column < dim;
    copy_async(to + row * to_row + column, any ? from + keys[row] * stride + column : from, any);
  }
}

template <typename P>
__global__ void __launch_bounds__(P::kThreads) attend(const GpuIndexedAttention c) {
  constexpr int kColumns = P::kColumns, kBlocks = P::kBlocks, kWarps = P::kWarps, kRows = P::kRows, kThreads = P::kThreads;
  constexpr bool kValuesInKeys = P::kValuesInKeys;
  extern __shared__ __align__(16) unsigned char memory[];
  const int width = padded(c.dim), value_width = P::kValueColumns + kPad;
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

  float sums[kBlocks][kColumns][4] = {};
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
    {  // scores of this warp's keys
      constexpr int kKeyTiles = kTile / 8 / kWarps;
      float s[kBlocks][kKeyTiles][4] = {};
      for (int d = 0; d < width - kPad; d += 16) {
        uint32_t b[kKeyTiles][2];
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) load_two(b[n], k + ((warp * kKeyTiles + n) * 8 + lane % 8) * width + d + lane / 8 % 2 * 8);
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          uint32_t a[4];
          load_four(a, q + (block * 16 + lane % 16) * width + d + lane / 16 * 8);
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) multiply_add(s[block][n], a, b[n]);
        }
      }
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int row = block * 16 + lane / 4 + i / 2 * 8, key = (warp * kKeyTiles + n) * 8 + lane % 4 * 2 + i % 2;
            const float x = s[block][n][i] * c.scale;
            scores[row * kScoreRow + key] = keys[key] == -1 ? kNone : keys[key] == -2 ? NAN : x;
          }
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
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const float upper = fade[block * 16 + lane / 4], lower = fade[block * 16 + lane / 4 + 8];
#pragma unroll
      for (int n = 0; n < kColumns; ++n) sums[block][n][0] *= upper, sums[block][n][1] *= upper, sums[block][n][2] *= lower, sums[block][n][3] *= lower;
    }
    // The probabilities of one tile of heads stay in registers; those of several would not fit.
    constexpr int kSteps = kTile / 16, kHeld = kBlocks == 1 ? kSteps : 1;
#pragma unroll
    for (int from_step = 0; from_step < kSteps; from_step += kHeld) {
      uint32_t a[kHeld][kBlocks][4];
#pragma unroll
      for (int j = 0; j < kHeld; ++j) {
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) load_four(a[j][block], p + (block * 16 + lane % 16) * kPRow + (from_step + j) * 16 + lane / 16 * 8);
      }
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int j = 0; j < kHeld; ++j) {
          uint32_t b[2];
          load_two_transposed(b, v + ((from_step + j) * 16 + lane % 16) * v_row + (warp * kColumns + n) * 8);
#pragma unroll
          for (int block = 0; block < kBlocks; ++block) multiply_add(sums[block][n], a[j][block], b);
        }
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
#pragma unroll
  for (int part = 0; part < 2 * kBlocks; ++part) {
    const int block = part / 2, half = part % 2, row = block * 16 + lane / 4 + half * 8;
    if (row >= rows) continue;
    const float sum = facts[row * 2 + 1], factor = c.splits > 1 ? 1.0f : sum == 0 ? 0.0f : 1 / sum;
    const int64_t at = (batch * c.heads + first_head + row) * c.queries + query;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = (warp * kColumns + n) * 8 + lane % 4 * 2 + i;
        if (column >= c.value_dim) continue;
        const float x = sums[block][n][half * 2 + i] * factor;
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

int64_t head_blocks(const GpuIndexedAttention& c) { return (c.heads / c.kv_heads + rows_of(c) - 1) / rows_of(c); }

template <typename P>
const char* launch(const GpuIndexedAttention& c) {
  const int64_t bytes = shared_bytes(c, P::kRows);
  const auto stream = static_cast<cudaStream_t>(c.stream);
  if (const auto error = cudaFuncSetAttribute(attend<P>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)); error != cudaSuccess) {
    return cudaGetErrorString(error);
  }
  const dim3 grid(static_cast<unsigned>(c.queries), static_cast<unsigned>(c.batch * c.kv_heads * head_blocks(c)), static_cast<unsigned>(c.splits));
  attend<P><<<grid, P::kThreads, bytes, stream>>>(c);
  if (c.splits > 1) combine<<<static_cast<unsigned>(c.batch * c.heads * c.queries), 128, 0, stream>>>(c);
  const auto error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// kEighths: value columns in multiples of 64.
template <int kEighths, bool kInside>
const char* launch_rows(const GpuIndexedAttention& c) {
  return rows_of(c) == 64 ? launch<Plan<kEighths, 4, 8, kInside>>(c) : launch<Plan<2 * kEighths, 1, 4, kInside>>(c);
}
template <int kEighths>
const char* launch_with(const GpuIndexedAttention& c) {
  return values_in_keys(c) ? launch_rows<kEighths, true>(c) : launch_rows<kEighths, false>(c);
}

}  // namespace

GpuFacts gpu_facts(int device) {
  GpuFacts facts;
  cudaDeviceGetAttribute(&facts.major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&facts.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&facts.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return facts;
}

int64_t gpu_splits(const GpuIndexedAttention& c, int64_t multiprocessors) {
  const int64_t blocks = c.queries * c.batch * c.kv_heads * head_blocks(c), tiles = (c.count + kTile - 1) / kTile;
  return std::clamp<int64_t>(2 * multiprocessors / std::max<int64_t>(blocks, 1), 1, std::max<int64_t>(1, tiles / 2));
}

const char* launch_indexed_attention(const GpuIndexedAttention& c) {
  switch (eighths(c)) {
    case 1: return launch_with<1>(c);
    case 2: return launch_with<2>(c);
    case 4: return launch_with<4>(c);
    default: return launch_with<8>(c);
  }
}

}  // namespace deepseek::kernels
