// A decoder's forward pass for inference: a fixed list of fused steps over a batch of sequences at unlike positions.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/language_model.h"
#include "engine/weights.h"
#include "hardware/huge_memory.h"
#include "hardware/team.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/quant_matmul/quant_matmul.h"

namespace deepseek::engine {

/// One sequence's place in the cache.
struct CachedSequence {
  std::vector<int32_t> pages;
  int64_t length = 0;  ///< positions that are filled
};

/// What one sequence adds in a pass: tokens after what its cache holds.
struct SequenceInput {
  CachedSequence* sequence = nullptr;
  std::span<const int32_t> tokens;
  bool all_logits = false;  ///< logits after every token, not only after the last
  std::span<const int32_t> targets;  ///< for losses(): what comes after each token, -1 where that does not count
};

/// Not thread-safe: one pass at a time, which uses all threads of the team. A pass allocates nothing once it has seen a batch as large.
class FusedModel {
 public:
  /// Most tokens of one pass; a longer prompt is fed in pieces.
  static constexpr int64_t kMostTokens = 512;

  using LayerSelections = std::vector<kernels::HeadSelections>;  // of each layer
  struct Options {
    int64_t cache_tokens = 0;  ///< positions that all sequences together may fill, in pages of 64
    kernels::KvType cache_type = kernels::KvType::kBF16;
    std::optional<kernels::SelectionOptions> selection = std::nullopt;  ///< what layers without a sliding window read; nothing: all
  };
  /// Errors: no kernel for the weights (a forced one that does not exist), no room for the cache.
  [[nodiscard]] static base::Result<std::unique_ptr<FusedModel>> create(PackedWeights weights, std::shared_ptr<hardware::Team> team, const Options& options);

  [[nodiscard]] const models::DecoderConfig& config() const { return weights_.config; }
  [[nodiscard]] const PackedWeights& weights() const { return weights_; }
  [[nodiscard]] hardware::Team& team() { return *team_; }
  /// Names of the kernels that run here, for logs: "avx512".
  [[nodiscard]] std::string kernels() const;

  /// Feeds at most kMostTokens in all. Returns logits [rows][vocab] f32, in the order of the inputs, valid until the next pass; final
  /// softcap applied. Errors: the cache is full (nothing was fed then), too many tokens or none, a token outside the vocabulary.
  [[nodiscard]] base::Result<std::span<float>> forward(std::span<const SequenceInput> inputs);

  /// As forward(), and returns -log p(target) of each token in order, 0 where the target is -1. Logits are not kept.
  [[nodiscard]] base::Result<std::span<const float>> losses(std::span<const SequenceInput> inputs);

  /// As forward(), but for the watcher alone: the head's inputs after every token, and no logits.
  [[nodiscard]] base::Status read(std::span<const SequenceInput> inputs);

  /// What a product reads: q, k and v; o; gate and up; down; the head, whose layer is num_layers.
  enum class Input { kAttention, kOutput, kFeedForward, kDown, kHead };
  /// Called with the f32 inputs of every product and token (the head's: every row of logits), by any thread of the team.
  using Watcher = std::function<void(int64_t layer, Input input, int64_t row, std::span<const float> values)>;
  void watch(Watcher watcher) { watcher_ = std::move(watcher); }

  /// Puts another matrix of the same shape in place of PackedWeights::matrices()[index], of a type whose kind of activations the model
  /// already has (bf16 for bf16), and returns the one that was there.
  [[nodiscard]] kernels::PackedMatrix exchange(size_t index, kernels::PackedMatrix matrix);

  /// Pages of the cache that no sequence holds.
  [[nodiscard]] int64_t free_pages() const { return pool_.free_pages(); }
  /// Of all passes so far, what each layer without a sliding window read. [those layers]
  [[nodiscard]] std::vector<AttentionReads> attention_reads() const;
  /// As LanguageModel has it.
  [[nodiscard]] double share_of_keys_read() const;
  /// What each layer reads from now on; for sequences that begin then, in a model that was created with a selection. Counts of keys begin anew.
  void select(LayerSelections selections);
  /// Forgets positions from `length` on and gives whole pages back.
  void truncate(CachedSequence& sequence, int64_t length);

 private:
  FusedModel(PackedWeights weights, std::shared_ptr<hardware::Team> team) : weights_(std::move(weights)), team_(std::move(team)) {}

  struct Product {
    const PackedLinear* linear;
    float* out;
    int64_t stride;
  };
  enum class Purpose { kLogits, kLosses, kInputs };
  base::Status prepare(std::span<const SequenceInput> inputs, Purpose purpose);
  base::Status run(std::span<const SequenceInput> inputs, Purpose purpose);
  void pass(int thread);
  void logits(int thread);
  void score(int thread);
  void layer(int64_t index, int thread);
  void multiply(std::span<const Product> products, std::vector<kernels::PackedRows>& inputs, int thread);
  void attend(int64_t index, int thread);
  void place_keys(int64_t index, int64_t token);
  void pack(std::vector<kernels::PackedRows>& rows, int64_t token, const float* values, int64_t layer, Input input);
  [[nodiscard]] uint8_t* scratch_of(int thread) const { return reinterpret_cast<uint8_t*>(scratch_[static_cast<size_t>(thread)].get()); }
  static const kernels::PackedRows& rows_for(const std::vector<kernels::PackedRows>& rows, const kernels::PackedFormat& format);

  PackedWeights weights_;
  std::shared_ptr<hardware::Team> team_;
  [[nodiscard]] const kernels::MatmulKernel& kernel_for(kernels::PackedRows::Kind kind) const;
  [[nodiscard]] const kernels::MatmulKernel& kernel_for(const kernels::PackedFormat& format) const { return kernel_for(kernels::PackedRows::kind_for(format)); }
  const kernels::MatmulKernel* integer_kernel_ = nullptr;
  const kernels::MatmulKernel* bf16_kernel_ = nullptr;
  const kernels::MatmulKernel* f32_kernel_ = nullptr;
  const kernels::AttentionKernel* attention_kernel_ = nullptr;
  kernels::KvPool pool_;
  LayerSelections selections_;               // unlike ones
  std::vector<size_t> attention_of_layer_;   // index in attention_: of its selection, or behind them where a layer slides
  std::vector<std::vector<kernels::TileCount>> tiles_;  // [thread][layer], of layers without a sliding window
  Watcher watcher_;
  float embedding_scale_ = 1.0f;
  std::vector<float> frequencies_[2];  // full and sliding layers

  // Of the pass that runs.
  int64_t tokens_ = 0, logit_rows_ = 0;
  Purpose purpose_ = Purpose::kLogits;
  std::vector<int32_t> ids_;
  std::vector<int64_t> positions_, logit_tokens_;
  std::vector<int32_t> page_of_;  // [token]
  std::vector<kernels::AttentionSequence> sequences_;
  std::vector<kernels::PagedAttention> attention_;  // for each of selections_, then that of sliding layers
  std::vector<float> cosines_[2], sines_[2];  // [token][head_dim / 2]
  std::vector<float> residual_, q_, k_, v_, attended_, hidden_, gate_, up_, logits_;
  std::vector<kernels::PackedRows> normed_, heads_, inner_, last_;  // inputs of the products, one for each kind of activations
  std::vector<hardware::HugeMemory> scratch_;                       // of each thread
  // losses(): of each token; of each thread the logits of 1,024 words, [token][1024]; of each 1,024 words and token what its softmax needs.
  struct Softmax {
    float best, sum, target;
  };
  std::vector<int32_t> targets_;
  std::vector<float> losses_;
  std::vector<std::vector<float>> words_;
  std::vector<Softmax> softmax_;
};

}  // namespace deepseek::engine
