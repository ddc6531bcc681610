// Attention over listed keys, and the scores that choose them, on a GPU: for tensor cores (compute capability 8.0 and later).
#pragma once

#include <cstdint>

namespace deepseek::kernels {

/// bf16 tensors by address and stride, in elements; rows are contiguous and begin at multiples of 16 bytes.
struct GpuIndexedAttention {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  const int32_t* keys = nullptr;       ///< [batch, queries, count], contiguous
  void* out = nullptr;                 ///< [batch, heads, queries, value_dim] bf16, contiguous
  float* log_sum_exp = nullptr;        ///< [batch, heads, queries]
  float* parts = nullptr;              ///< with splits > 1: [splits][batch * heads * queries][value_dim + 2]
  int64_t batch = 0, heads = 0, kv_heads = 0, queries = 0, length = 0, count = 0;  ///< length: keys that there are
  int64_t dim = 0, value_dim = 0;      ///< multiples of 8, up to 576 and 512
  int64_t q_strides[3] = {}, k_strides[3] = {}, v_strides[3] = {};  ///< of batch, head, row
  float scale = 1;
  int64_t shared_memory = 0;           ///< bytes that a block may use
  int64_t splits = 1;                  ///< blocks that share a query's list
  void* stream = nullptr;              ///< cudaStream_t
};

struct GpuFacts {
  int major = 0, multiprocessors = 0, shared_memory = 0;  ///< 0 where CUDA does not say
};
GpuFacts gpu_facts(int device);

/// Blocks that share a query's list, so that few queries occupy the whole GPU.
int64_t gpu_splits(const GpuIndexedAttention& call, int64_t multiprocessors);
/// Returns nothing, or what CUDA says.
const char* launch_indexed_attention(const GpuIndexedAttention& call);

/// As kernels::index_scores of bf16 tensors, contiguous: q [batch, queries, heads, dim], k [batch, keys, dim], weights [batch, queries, heads] f32,
/// out [batch, queries, keys] f32.
struct GpuIndexScores {
  const void *q = nullptr, *k = nullptr;
  const float* weights = nullptr;
  float* out = nullptr;
  int64_t batch = 0, queries = 0, heads = 0, keys = 0;
  int64_t dim = 0;        ///< 64 or 128
  int64_t visible = 0;    ///< keys that the first query sees, each later one sees one more; causal = false: `keys`
  bool causal = true;
  void* stream = nullptr;
};
/// heads: up to 128.
const char* launch_index_scores(const GpuIndexScores& call);

}  // namespace deepseek::kernels
