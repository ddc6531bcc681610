// The kernels of this folder by libtorch's operators, in blocks of queries: what other devices than the CPU run, and tests compare with.
#pragma once

#include "kernels/sparse_attention/dynamic_attention.h"
#include "kernels/sparse_attention/indexed_attention.h"
#include "kernels/sparse_attention/indexer.h"
#include "kernels/sparse_attention/indexer_loss.h"

namespace deepseek::kernels::operators {

/// Which keys each of the last `queries` of `keys` positions sees: [queries, keys] bool.
at::Tensor visible(int64_t queries, int64_t keys, const at::Device& device);

// As the functions of the same names; arguments are checked by the caller.
at::Tensor select_keys(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, const IndexerOptions& options);
IndexedAttentionResult indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, double scale);
IndexedAttentionGradients indexed_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys,
                                                     const IndexedAttentionResult& result, double scale);
DynamicAttentionResult dynamic_sparse_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DynamicAttentionOptions& options);
DynamicAttentionGradients dynamic_sparse_attention_backward(const at::Tensor& d_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                            const DynamicAttentionRows& rows, const DynamicAttentionOptions& options);
IndexerLossResult indexer_loss(const IndexerLossInputs& inputs, const IndexerLossOptions& options);

#ifdef DEEPSEEK_GPU_KERNELS
/// Whether the GPU's own kernel takes these: bf16, rows of multiples of 16 bytes up to 576 and 512 dimensions, compute capability 8.0.
bool gpu_attends(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
/// Few queries share their lists among blocks, whose number depends on how many there are: the last bits do too.
IndexedAttentionResult gpu_indexed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& keys, double scale);
/// Whether it scores these too: bf16, 64 or 128 dimensions, up to 128 heads.
bool gpu_scores(const at::Tensor& q);
/// The first query sees `visible` keys where causal, each later one sees one more.
at::Tensor gpu_index_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weights, bool causal, int64_t visible);
#endif

}  // namespace deepseek::kernels::operators
