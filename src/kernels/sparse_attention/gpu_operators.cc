// The GPU kernels for tensors of libtorch. Compiled where nvcc and a libtorch with CUDA are: see tools/build_ops.
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/sparse_attention/gpu_kernels.h"
#include "kernels/sparse_attention/operators.h"

namespace deepseek::kernels::operators {
namespace {

// Rows that a block can copy 16 bytes at a time.
bool aligned(const at::Tensor& x) {
  return x.stride(3) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 && x.stride(0) % 8 == 0 && x.stride(1) % 8 == 0 && x.stride(2) % 8 == 0;
}
void take_strides(const at::Tensor& x, int64_t (&strides)[3]) {
  for (int i = 0; i < 3; ++i) strides[i] = x.stride(i);
}

}  // namespace

bool gpu_attends(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return q.is_cuda() && q.scalar_type() == at::kBFloat16 && q.size(3) % 8 == 0 && q.size(3) <= 576 && v.size(3) % 8 == 0 && v.size(3) <= 512 && aligned(k) && aligned(v) &&
         gpu_facts(q.get_device()).major >= 8;
}

IndexedAttentionResult gpu_indexed_attention(const at::Tensor& q_in, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys_in, double scale) {
  const c10::DeviceGuard guard(q_in.device());
  const at::Tensor q = aligned(q_in) ? q_in : q_in.contiguous(), keys = keys_in.contiguous();
  IndexedAttentionResult result{at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options()), at::empty(q.sizes().slice(0, 3), q.options().dtype(at::kFloat))};
  GpuIndexedAttention c{.q = q.const_data_ptr(), .k = k.const_data_ptr(), .v = v.const_data_ptr(), .keys = keys.const_data_ptr<int32_t>(), .out = result.out.mutable_data_ptr(),
                        .log_sum_exp = result.log_sum_exp.mutable_data_ptr<float>(), .batch = q.size(0), .heads = q.size(1), .kv_heads = k.size(1), .queries = q.size(2),
                        .length = k.size(2), .count = keys.size(2), .dim = q.size(3), .value_dim = v.size(3), .scale = static_cast<float>(scale)};
  take_strides(q, c.q_strides);
  take_strides(k, c.k_strides);
  take_strides(v, c.v_strides);
  const GpuFacts facts = gpu_facts(q.get_device());
  c.shared_memory = facts.shared_memory;
  c.splits = gpu_splits(c, facts.multiprocessors);
  const at::Tensor parts = c.splits > 1 ? at::empty({c.splits, c.batch * c.heads * c.queries, c.value_dim + 2}, result.log_sum_exp.options()) : at::Tensor();
  if (parts.defined()) c.parts = parts.mutable_data_ptr<float>();
  c.stream = c10::cuda::getCurrentCUDAStream(q.get_device()).stream();
  const char* error = launch_indexed_attention(c);
  TORCH_CHECK(error == nullptr, "sparse attention on the GPU: ", error);
  return result;
}

bool gpu_scores(const at::Tensor& q) {
  return q.is_cuda() && q.scalar_type() == at::kBFloat16 && (q.size(3) == 64 || q.size(3) == 128) && q.size(2) <= 128 && gpu_facts(q.get_device()).major >= 8;
}

at::Tensor gpu_index_scores(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& weights_in, bool causal, int64_t visible) {
  const c10::DeviceGuard guard(q_in.device());
  const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), weights = weights_in.contiguous();
  at::Tensor out = at::empty({q.size(0), q.size(1), k.size(1)}, weights.options());
  const char* error = launch_index_scores({.q = q.const_data_ptr(), .k = k.const_data_ptr(), .weights = weights.const_data_ptr<float>(), .out = out.mutable_data_ptr<float>(),
                                           .batch = q.size(0), .queries = q.size(1), .heads = q.size(2), .keys = k.size(1), .dim = q.size(3), .visible = visible, .causal = causal,
                                           .stream = c10::cuda::getCurrentCUDAStream(q.get_device()).stream()});
  TORCH_CHECK(error == nullptr, "indexer on the GPU: ", error);
  return out;
}

}  // namespace deepseek::kernels::operators
