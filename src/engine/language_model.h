// What generation and evaluation need of a model, whichever way it computes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "models/text.h"

namespace deepseek::models {
class Decoder;
}

namespace deepseek::engine {

/// One sequence and its keys and values.
class Sequence {
 public:
  virtual ~Sequence() = default;
  /// Feeds tokens and returns the logits after the last, [vocab] f32, or after each, [tokens][vocab]. The caller may change them; they
  /// are valid until any sequence of this model is fed again. After an error the sequence is as it was. Errors: no memory, a token outside
  /// the vocabulary.
  [[nodiscard]] virtual base::Result<std::span<float>> feed(std::span<const int32_t> tokens, bool all_logits = false) = 0;
  [[nodiscard]] virtual int64_t length() const = 0;
  /// Forgets everything after the first `length` tokens.
  virtual void truncate(int64_t length) = 0;
};

/// What a layer without a sliding window read so far.
struct AttentionReads {
  int64_t layer = 0;
  double keys_read = 1;  ///< share of the keys that were there
  double mass_kept = 1;  ///< share of the attention that these hold, by the estimate that chose them
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  [[nodiscard]] virtual const models::DecoderConfig& config() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Sequence> new_sequence() = 0;
  /// Sequences that do not see each other: the sum of -log p(tokens[i]) over counted[i] != 0, i > 0, each from its beginning.
  struct Scored {
    std::span<const int32_t> tokens;
    std::span<const uint8_t> counted;
  };
  [[nodiscard]] virtual base::Result<double> loss(std::span<const Scored> sequences) = 0;
  /// Of all that was fed so far, the keys that layers without a sliding window read of those that were there, 0 to 1.
  [[nodiscard]] virtual double share_of_keys_read() const { return 1.0; }
  /// The same by layers. Empty: this way to run a model does not know.
  [[nodiscard]] virtual std::vector<AttentionReads> attention_reads() const { return {}; }
};

/// Over a decoder of models/, in its own precision and on its device, adapters included. The decoder must outlive it.
[[nodiscard]] std::unique_ptr<LanguageModel> plain_model(const models::Decoder& decoder);

struct LoadOptions {
  std::string dtype = "auto";    ///< "auto": as the file has its weights, integers included; "bf16", "f32"
  std::string device = "cpu";    ///< for load_plain(): "cpu" or "cuda"
  base::fs::path adapter;        ///< a PEFT adapter, merged (PackOptions); or empty
  int threads = 0;               ///< 0: one for each core
  int64_t context = 0;           ///< positions that the cache may hold; 0: the model's
  std::string kv_cache = "bf16"; ///< type of keys and values: "bf16", or "int8" in half the memory
  std::string attention = "auto";  ///< what layers without a sliding window read: kernels::selection_named(), or the model's own way
  base::fs::path plan;             ///< for attention "auto": a plan.json; empty: the one beside the model, where there is one
  bool check_weights = true;     ///< refuse NaN and infinity
  bool cache = true;             ///< keep the packed weights beside the model for the next start
};
/// The engine's own pass (fused_model.h) over the weights of a model that was opened. Errors: as pack_checkpoint(), a context that memory cannot hold.
[[nodiscard]] base::Result<std::unique_ptr<LanguageModel>> load_fused(const models::ModelText& text, const LoadOptions& options = {});
/// Over a decoder or a DeepSeek model that is loaded for it, by libtorch's operators on `device`: for where load_fused() does not run. "auto" is bf16 where the
/// device multiplies it. Errors: as models::load_adapted_decoder().
[[nodiscard]] base::Result<std::unique_ptr<LanguageModel>> load_plain(const models::ModelText& text, const LoadOptions& options = {});

}  // namespace deepseek::engine
