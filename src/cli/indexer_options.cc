#include "cli/indexer_options.h"

#include "models/adapter/config.h"

namespace deepseek::cli {
namespace {

constexpr int64_t kWindow = 4096;

bool given(const CLI::App& app, const char* option) { return app.get_option(option)->count() > 0; }

}  // namespace

void add_indexer_options(CLI::App& app, IndexerArguments& a) {
  auto* group = app.add_option_group("Sparse attention");
  a.group = group;
  group->add_option("--dsa", a.stage, "train the indexers that choose which keys are read: warmup (the model stays frozen), then sparse (beside a LoRA adapter)");
  group->add_option("--dsa_top_k", a.config.top_k, "keys that a query reads [512, or what --init_adapter says]");
  group->add_option("--dsa_heads", a.config.heads, "heads of an indexer")->capture_default_str();
  group->add_option("--dsa_dim", a.config.dim, "size of its heads")->capture_default_str();
}

base::Status resolve_indexer(const IndexerArguments& a, const CLI::App& app, int64_t& context, train::TrainOptions& options) {
  options.dsa = train::IndexerStage::kNone;
  if (given(*a.group, "--dsa")) {
    auto stage = train::indexer_stage_named(a.stage);
    if (!stage) return base::pass(stage);
    options.dsa = *stage;
  }
  const bool trains = options.dsa != train::IndexerStage::kNone;
  for (const char* name : {"--dsa_top_k", "--dsa_heads", "--dsa_dim"}) {
    if (!trains && given(*a.group, name)) return base::refuse("{} has no meaning without --dsa warmup or --dsa sparse", name);
  }
  if (!trains) return {};
  const bool decided = models::holds_indexer(options.init_adapter);
  for (const char* name : {"--dsa_heads", "--dsa_dim"}) {
    if (decided && given(*a.group, name)) return base::refuse("{} cannot be changed with --init_adapter: {} decides it; leave one of the two out", name, options.init_adapter.string());
  }
  options.indexer = a.config;
  models::IndexerConfig checked = a.config;
  if (!given(*a.group, "--dsa_top_k")) checked.top_k = 1;
  if (auto sound = models::check_indexer_config(checked); !sound) return sound;
  if (!given(app, "--context")) context = kWindow;
  if (!given(app, "--batch_size")) options.batch_size = 2;
  if (options.dsa == train::IndexerStage::kWarmup && !given(app, "--learning_rate")) options.learning_rate = 1e-3;
  return {};
}

base::Result<int64_t> indexer_parameters(const models::DecoderConfig& model, const models::IndexerConfig& c) {
  auto layers = models::indexed_layers(model);
  if (!layers) return base::pass(layers);
  return static_cast<int64_t>(layers->size()) * ((c.heads * c.dim + c.dim + c.heads) * model.hidden_size + 2 * c.dim);
}

}  // namespace deepseek::cli
