#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/index_select.h>

#include <exception>
#include <new>

#include "engine/language_model.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "models/adapter/config.h"
#include "models/deepseek/deepseek.h"
#include "models/model.h"

namespace deepseek::engine {
namespace {

// Compute throws; at this border it becomes an error of one line.
template <typename Body>
auto caught(int64_t tokens, const Body& body) -> base::Result<decltype(body())> {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return base::fail("not enough memory for a context of {} tokens", tokens);
  } catch (const std::exception& error) {
    const std::string what = error.what();
    return base::fail("the model failed: {}", what.substr(0, what.find('\n')));
  }
}

template <typename Model>
class PlainSequence : public Sequence {
 public:
  explicit PlainSequence(const Model& model) : model_(model) {}
  base::Result<std::span<float>> feed(std::span<const int32_t> tokens, bool all_logits) override {
    const int64_t before = cache_.length();
    auto logits = caught(before + static_cast<int64_t>(tokens.size()), [&] {
      const std::vector<int32_t> ids(tokens.begin(), tokens.end());
      return (all_logits ? model_.step_all(ids, cache_) : model_.step(ids, cache_)).to(at::kCPU).contiguous();
    });
    if (!logits) {
      cache_.truncate(before);
      return base::pass(logits);
    }
    logits_ = std::move(*logits);
    return std::span<float>(logits_.mutable_data_ptr<float>(), static_cast<size_t>(logits_.numel()));
  }
  int64_t length() const override { return cache_.length(); }
  void truncate(int64_t length) override {
    if (length == 0) cache_ = typename Model::Cache();  // gives the memory back
    cache_.truncate(length);
  }

 private:
  const Model& model_;
  typename Model::Cache cache_;
  at::Tensor logits_;
};

// Model: models::Decoder or models::Deepseek.
template <typename Model>
class PlainModel : public LanguageModel {
 public:
  explicit PlainModel(const Model& model) : model_(model) {}
  explicit PlainModel(std::unique_ptr<Model> model) : own_(std::move(model)), model_(*own_) {}
  const models::DecoderConfig& config() const override { return model_.config(); }
  std::unique_ptr<Sequence> new_sequence() override { return std::make_unique<PlainSequence<Model>>(model_); }
  double share_of_keys_read() const override {
    return model_.share_of_keys_read();
  }
  base::Result<double> loss(std::span<const Scored> sequences) override {
    std::vector<std::vector<int32_t>> tokens;
    std::vector<int64_t> targets;
    int64_t total = 0;
    for (const auto& sequence : sequences) {
      for (size_t i = 1; i < sequence.tokens.size(); ++i) {
        if (sequence.counted[i] != 0) targets.push_back(total + static_cast<int64_t>(i));
      }
      tokens.emplace_back(sequence.tokens.begin(), sequence.tokens.end());
      total += static_cast<int64_t>(sequence.tokens.size());
    }
    if (targets.empty()) return 0.0;
    return caught(total, [&] {
      at::NoGradGuard no_grad;
      const auto packed = models::pack_sequences(tokens);
      const at::Tensor hidden = model_.hidden(packed), positions = models::index_tensor(targets);
      const at::Tensor rows = at::index_select(hidden, 0, (positions - 1).to(hidden.device()));
      const at::Tensor ids = at::index_select(packed.tokens, 0, positions).to(hidden.device());
      const auto result = kernels::linear_cross_entropy(rows, model_.head(), ids, at::Tensor(), false, {.softcap = model_.config().final_softcap});
      return result.losses.sum(at::kDouble).template item<double>();
    });
  }

 private:
  std::unique_ptr<Model> own_;
  const Model& model_;
};

base::Result<std::unique_ptr<LanguageModel>> load_deepseek(const models::ModelText& text, const LoadOptions& options) {
  if (!options.adapter.empty()) return base::refuse("--adapter: a DeepSeek model with latent attention takes no adapter yet");
  if (options.kv_cache != "bf16") return base::refuse("--kv_cache {}: the latents of this model are kept in its own type", options.kv_cache);
  auto weights = models::weight_options({.dtype = options.dtype, .device = options.device, .check_weights = options.check_weights});
  if (!weights) return base::pass(weights);
  auto model = models::load_deepseek(text.path, *weights);
  if (!model) return base::pass(model);
  if (auto set = (*model)->set_attention(options.attention); !set) return base::pass(set);
  return std::make_unique<PlainModel<models::Deepseek>>(std::move(*model));
}

}  // namespace

std::unique_ptr<LanguageModel> plain_model(const models::Decoder& decoder) { return std::make_unique<PlainModel<models::Decoder>>(decoder); }

base::Result<std::unique_ptr<LanguageModel>> load_plain(const models::ModelText& text, const LoadOptions& options) {
  if (!options.plan.empty()) return base::refuse("--plan is for --device cpu and models that the engine runs itself");
  if (text.config.family == models::DecoderFamily::kDeepseek) return load_deepseek(text, options);
  const bool indexer = models::holds_indexer(options.adapter);
  if (indexer && options.kv_cache != "bf16") return base::refuse("--kv_cache {}: with indexers keys and values are kept in the weights' type", options.kv_cache);
  if (!indexer && options.attention != "dense" && options.attention != "auto") return base::refuse("--attention {} is for --device cpu", options.attention);
  auto decoder = models::load_adapted_decoder(text.path, {.dtype = options.dtype, .device = options.device, .check_weights = options.check_weights,
                                                          .adapter = options.adapter});
  if (!decoder) return base::pass(decoder);
  if (indexer) {
    auto reads = models::indexer_reads_named(options.attention, (*decoder)->reads().all_below());
    if (!reads) return base::pass(reads);
    (*decoder)->set_reads(*reads);
  }
  return std::make_unique<PlainModel<models::Decoder>>(std::move(*decoder));
}

}  // namespace deepseek::engine
