#include <algorithm>
#include <numeric>

#include "base/log.h"
#include "base/text.h"
#include "engine/fused_model.h"
#include "engine/language_model.h"
#include "hardware/cpu.h"
#include "hardware/memory.h"
#include "models/plan.h"

namespace deepseek::engine {
namespace {

class FusedSequence : public Sequence {
 public:
  explicit FusedSequence(FusedModel& model) : model_(model) {}
  ~FusedSequence() override { model_.truncate(state_, 0); }
  base::Result<std::span<float>> feed(std::span<const int32_t> tokens, bool all_logits) override {
    const int64_t before = state_.length;
    if (all_logits && tokens.size() > FusedModel::kMostTokens) {
      return base::refuse("logits after each of {} tokens at once: at most {}", tokens.size(), FusedModel::kMostTokens);
    }
    std::span<float> logits;
    for (size_t at = 0; at < tokens.size(); at += FusedModel::kMostTokens) {
      const SequenceInput input[] = {{&state_, tokens.subspan(at, std::min<size_t>(tokens.size() - at, FusedModel::kMostTokens)), all_logits}};
      auto fed = model_.forward(input);
      if (!fed) {
        model_.truncate(state_, before);
        return fed;
      }
      logits = *fed;
    }
    return logits;
  }
  int64_t length() const override { return state_.length; }
  void truncate(int64_t length) override { model_.truncate(state_, length); }

 private:
  FusedModel& model_;
  CachedSequence state_;
};

class FusedLanguageModel : public LanguageModel {
 public:
  explicit FusedLanguageModel(std::unique_ptr<FusedModel> model) : model_(std::move(model)) {}
  const models::DecoderConfig& config() const override { return model_->config(); }
  std::unique_ptr<Sequence> new_sequence() override { return std::make_unique<FusedSequence>(*model_); }
  double share_of_keys_read() const override { return model_->share_of_keys_read(); }
  std::vector<AttentionReads> attention_reads() const override { return model_->attention_reads(); }
  base::Result<double> loss(std::span<const Scored> sequences) override {
    double sum = 0;
    for (size_t at = 0; at < sequences.size();) {
      auto part = sequences[at].tokens.size() > FusedModel::kMostTokens ? loss_of_long(sequences[at++]) : loss_together(sequences, at);
      if (!part) return part;
      sum += *part;
    }
    return sum;
  }

 private:
  // What comes after each of tokens [at, at + count), where it counts.
  static std::vector<int32_t> targets_of(const Scored& scored, size_t at, size_t count) {
    std::vector<int32_t> targets(count, -1);
    for (size_t i = 0; i < count && at + i + 1 < scored.tokens.size(); ++i) {
      if (scored.counted[at + i + 1] != 0) targets[i] = scored.tokens[at + i + 1];
    }
    return targets;
  }

  base::Result<double> sum_of(std::span<const SequenceInput> inputs) {
    auto losses = model_->losses(inputs);
    if (!losses) return base::pass(losses);
    return std::accumulate(losses->begin(), losses->end(), 0.0);
  }

  // A sequence that takes several passes.
  base::Result<double> loss_of_long(const Scored& scored) {
    CachedSequence state;
    base::Result<double> sum = 0.0;
    for (size_t at = 0; sum && at < scored.tokens.size(); at += FusedModel::kMostTokens) {
      const size_t count = std::min<size_t>(scored.tokens.size() - at, FusedModel::kMostTokens);
      const auto targets = targets_of(scored, at, count);
      const SequenceInput input[] = {{&state, scored.tokens.subspan(at, count), false, targets}};
      auto part = sum_of(input);
      sum = part ? base::Result<double>(*sum + *part) : part;
    }
    model_->truncate(state, 0);
    return sum;
  }

  // As many sequences from `at` on as one pass and the cache hold; moves `at` behind them.
  base::Result<double> loss_together(std::span<const Scored> sequences, size_t& at) {
    std::vector<CachedSequence> states(sequences.size() - at);
    std::vector<std::vector<int32_t>> targets;
    std::vector<SequenceInput> inputs;
    int64_t tokens = 0, pages = 0;
    targets.reserve(states.size());
    for (; at < sequences.size(); ++at) {
      const Scored& scored = sequences[at];
      const auto size = static_cast<int64_t>(scored.tokens.size());
      tokens += size;
      pages += (size + kernels::kPageTokens - 1) / kernels::kPageTokens;
      if (!inputs.empty() && (tokens > FusedModel::kMostTokens || pages > model_->free_pages())) break;
      if (size == 0) continue;
      targets.push_back(targets_of(scored, 0, scored.tokens.size()));
      inputs.push_back({&states[inputs.size()], scored.tokens, false, targets.back()});
    }
    if (inputs.empty()) return 0.0;
    auto sum = sum_of(inputs);
    for (auto& state : states) model_->truncate(state, 0);
    return sum;
  }
  std::unique_ptr<FusedModel> model_;
};

// Positions whose keys and values fit into memory beside the weights, which are loaded already.
base::Result<int64_t> context_that_fits(const models::DecoderConfig& config, int64_t asked, kernels::KvType type, bool summaries) {
  const int64_t each = kernels::KvPool::position_bytes(config.num_layers, config.num_kv_heads, config.head_dim, type, summaries);
  const uint64_t available = hardware::memory().available / 10 * 9;
  const auto most = static_cast<int64_t>(available / static_cast<uint64_t>(each)), wanted = asked > 0 ? asked : config.max_position_embeddings;
  if (wanted <= most) return wanted;
  if (asked > 0) {
    const auto narrow = static_cast<uint64_t>(kernels::KvPool::position_bytes(config.num_layers, config.num_kv_heads, config.head_dim, kernels::KvType::kInt8));
    return base::refuse("a context of {} tokens needs {} for its keys and values, and {} are free: lower --context to {} or less{}", asked,
                        base::human_bytes(static_cast<uint64_t>(asked * each)), base::human_bytes(available), most, narrow <= available / static_cast<uint64_t>(asked) ? ", or use --kv_cache int8" : "");
  }
  base::log_info(fmt::format("memory holds a context of {} tokens; the model could have {}", most, wanted));
  return most;
}

// What each layer reads: as asked, or as the plan has it.
base::Result<FusedModel::LayerSelections> attention_of(const models::ModelText& text, const LoadOptions& options) {
  const auto layers = static_cast<size_t>(text.config.num_layers);
  if (options.attention != "auto") {
    if (!options.plan.empty()) return base::refuse("--plan and --attention {} contradict each other: a plan is for --attention auto", options.attention);
    auto selection = kernels::selection_named(options.attention);
    if (!selection) return base::within("--attention", selection.error());
    return FusedModel::LayerSelections(layers, kernels::head_selections({&*selection, 1}));
  }
  const auto file = options.plan.empty() ? models::plan_path(text.path) : options.plan;
  std::error_code error;
  if (options.plan.empty() && !base::fs::exists(file, error)) return FusedModel::LayerSelections(layers);
  auto plan = models::read_plan(file, text.config);
  if (!plan) return base::pass(plan);
  auto found = models::sparsity_of(*plan, text.config);
  if (!found) return base::within(file.string(), found.error());
  return found->has_value() ? std::move(**found) : FusedModel::LayerSelections(layers);
}

}  // namespace

base::Result<std::unique_ptr<LanguageModel>> load_fused(const models::ModelText& text, const LoadOptions& options) {
  auto as = pack_as(options.dtype);
  if (!as) return base::pass(as);
  auto cache_type = kernels::kv_type_named(options.kv_cache);
  if (!cache_type) return base::within("--kv_cache", cache_type.error());
  auto selections = attention_of(text, options);
  if (!selections) return base::pass(selections);
  const auto first = std::find_if(selections->begin(), selections->end(), [](const auto& s) { return !s.empty(); });
  const auto selection = first == selections->end() ? std::nullopt : std::optional(first->front());
  auto checkpoint = models::DecoderCheckpoint::open(text.path, text.gguf);
  if (!checkpoint) return base::pass(checkpoint);
  // More threads than processors only wait for each other.
  const int most = hardware::cpu().allowed_cpus;
  if (options.threads > most) base::log_info(fmt::format("this process may run on {} processors: {} threads instead of {}", most, most, options.threads));
  auto team = std::make_shared<hardware::Team>(std::min(options.threads, most));
  auto weights = pack_checkpoint(*checkpoint, *team, {.check_weights = options.check_weights, .as = *as, .adapter = options.adapter, .cache = options.cache});
  if (!weights) return base::pass(weights);
  auto context = context_that_fits(text.config, options.context, *cache_type, selection.has_value());
  if (!context) return base::pass(context);
  auto model = FusedModel::create(std::move(*weights), std::move(team), {*context, *cache_type, selection});
  if (!model) return base::pass(model);
  (*model)->select(std::move(*selections));
  if ((*model)->kernels().find("reference") != std::string::npos) {
    base::log_info("kernels: " + (*model)->kernels() + "; without AVX2 (or with DEEPSEEK_FORCE_KERNEL) this is slow");
  }
  return std::make_unique<FusedLanguageModel>(std::move(*model));
}

}  // namespace deepseek::engine
