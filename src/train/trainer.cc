#include "train/trainer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>

#include "models/adapter/config.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/step.h"

namespace deepseek::train {
namespace {

using base::fail;
using base::refuse;
using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;
namespace fs = base::fs;

uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

const char* name_of(Difficulty difficulty) {
  switch (difficulty) {
    case Difficulty::kField: return "field";
    case Difficulty::kLength: return "length";
    case Difficulty::kLoss: return "loss";
    default: return "auto";
  }
}

// The settings that decide the course of a run: a resumed run must have the same. Names are those of the options.
Json settings(const models::Decoder& decoder, const TrainingData& data, const TrainOptions& options, const models::IndexerConfig& indexer, int64_t total) {
  Json out{{"model", options.model_name},
           {"parameters", decoder.config().parameters()},
           {"dtype", decoder.dtype() == at::kBFloat16 ? "bf16" : "f32"},
           {"steps", total},
           {"batch_size", options.batch_size},
           {"gradient_accumulation", options.gradient_accumulation},
           {"micro_batch_tokens", options.micro_batch_tokens},
           {"learning_rate", options.learning_rate},
           {"schedule", name_of(options.schedule)},
           {"warmup", options.warmup},
           {"weight_decay", options.weight_decay},
           {"max_grad_norm", options.max_grad_norm},
           {"curriculum_steps", options.curriculum_steps},
           {"curriculum_order", name_of(options.curriculum_order)},
           {"curriculum_schedule", name_of(options.curriculum_schedule)},
           {"difficulty", name_of(options.difficulty)},
           {"seed", options.seed}};
  const Json adapter = models::adapter_config_to_json(options.adapter);
  for (const auto& [key, value] : adapter.items()) out[key == "r" ? "lora_rank" : key] = value;
  if (options.dsa != IndexerStage::kNone) {
    out["dsa"] = name_of(options.dsa);
    out["dsa_heads"] = indexer.heads;
    out["dsa_dim"] = indexer.dim;
    out["dsa_top_k"] = indexer.top_k;
  }
  out["dataset"] = data.hash;  // last: a changed seed changes it too, and is the better explanation
  return out;
}

// What a killed process left of a file that it was writing.
void remove_remains(const fs::path& directory) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".part")) continue;
    for (const char* ours : {"adapter_config.json.", "adapter_model.safetensors.", "indexer_config.json.", "indexer.safetensors.", "metrics.jsonl.", "report.html.", kStateFile}) {
      if (name.starts_with(ours)) fs::remove(entry.path(), error);
    }
  }
}

class Run {
 public:
  Run(models::Decoder& decoder, const TrainingData& data, const TrainOptions& options, const TrainHooks& hooks, const Parallel& parallel)
      : decoder_(decoder), data_(data), options_(options), hooks_(hooks), parallel_(parallel), total_(total_steps(options, data.train.size())) {
    eval_every_ = options.eval_every > 0 ? options.eval_every : std::max<int64_t>(1, (total_ + 4) / 5);
    save_every_ = options.save_every > 0 ? options.save_every : eval_every_;
    adapter_ = options.adapter;
    adapter_.base_model = options.model_name;
    indexer_ = options.indexer;
  }

  Result<TrainSummary> go() {
    if (auto done = everywhere(prepare()); !done) return base::pass(done);
    if (interrupted_) return TrainSummary{.reason = "interrupted", .resumable = false};
    Curriculum curriculum(state_.difficulty, {.stages = options_.curriculum_steps, .order = options_.curriculum_order,
                                              .pace = options_.curriculum_schedule, .total_steps = total_, .seed = options_.seed});
    curriculum.skip(state_.step, examples_per_step());
    began_ = std::chrono::steady_clock::now();
    while (state_.step < total_ || state_.evaluation_due) {
      if (!state_.evaluation_due) {
        if (stopped_early()) return ended("early stopping");
        if (parallel_.any(hooks_.stop && hooks_.stop())) return ended("interrupted");
        if (auto done = everywhere(step(curriculum)); !done) return base::pass(done);
        state_.evaluation_due = state_.step % eval_every_ == 0 || state_.step == total_;
      }
      if (state_.evaluation_due) {
        if (auto done = everywhere(evaluate()); !done) return with_way_on(done);
        if (interrupted_) return ended("interrupted");
      }
      if (state_.step % save_every_ == 0 && state_.step < total_) {
        if (auto done = everywhere(save()); !done) return with_way_on(done);
      }
    }
    return ended(stopped_early() ? "early stopping" : "finished");
  }

 private:
  // What fails in one process ends the run in all of them; every process comes here at the same points.
  Status everywhere(Status mine) {
    if (mine && !trouble_) mine = trouble_;
    const bool failed = parallel_.any(!mine);
    if (mine && failed) return fail("another process of this run failed");
    return mine;
  }

  // A full disk, once there is room again, costs only the steps since the last save.
  tl::unexpected<base::Error> with_way_on(Status& failed) const {
    if (saved_step_ > 0) {
      failed.error().message += fmt::format("; step {} is saved: when that is put right, the same command with --resume goes on from there",
                                            saved_step_);
    }
    return base::pass(failed);
  }

  bool stopped_early() const { return options_.early_stopping > 0 && state_.bad_evaluations >= options_.early_stopping; }
  int64_t examples_per_step() const { return options_.batch_size * options_.gradient_accumulation; }
  double seconds() const { return seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count(); }
  fs::path state_file() const { return options_.output / "last" / kStateFile; }

  Status prepare() {
    if (options_.early_stopping > 0 && data_.validation.empty()) {
      return refuse("--early_stopping needs held-out rows and there are none: use --validation 0.1, or rows whose split is validation");
    }
    if (auto done = everywhere(prepare_output(options_, parallel_)); !done) return done;
    if (auto done = everywhere(remove_earlier_run()); !done) return done;
    if (auto done = everywhere(attach()); !done) return done;
    state_.run = settings(decoder_, data_, options_, indexer_, total_);
    if (options_.resume) {
      if (auto done = everywhere(restore()); !done) return done;
    } else if (auto done = everywhere(rate_difficulty()); !done || interrupted_) {
      return done;
    }
    if (auto done = everywhere(open_metrics()); !done) return done;
    if (!options_.resume) return measure_base();
    Json line{{"type", "resume"}, {"step", state_.step}, {"steps_total", total_}};
    if (state_.threads != at::get_num_threads()) line["threads_before"] = state_.threads;
    if (state_.processes != parallel_.size()) line["processes_before"] = state_.processes;
    emit(line);
    return {};
  }

  Status restore() {
    auto state = load_state(state_file(), state_.run, names_, *optimizer_);
    if (!state) return base::pass(state);
    state_ = std::move(*state);
    seconds_before_ = state_.seconds;
    saved_step_ = state_.step;
    if (state_.difficulty.size() != data_.train.size()) return fail("{} holds another number of examples", state_file().string());
    return {};
  }

  Status remove_earlier_run() const {
    if (!parallel_.first() || !options_.overwrite || options_.resume) return {};
    const fs::path last = options_.output / "last";
    std::vector<fs::path> files{state_file()};
    for (const auto& directory : {options_.output, last}) {
      for (const char* name : {models::kAdapterWeightsFile, models::kAdapterConfigFile, models::kIndexerWeightsFile, models::kIndexerConfigFile}) files.push_back(directory / name);
    }
    for (const auto& file : files) {
      std::error_code error;
      fs::remove(file, error);
      if (error) return fail("cannot remove {}: {}", file.string(), error.message());
    }
    return {};
  }

  Status attach() {
    if (auto done = options_.dsa == IndexerStage::kNone ? Status() : attach_indexers(); !done) return done;
    if (options_.dsa != IndexerStage::kWarmup) {
      if (auto done = attach_lora(); !done) return done;
    }
    for (const auto& [name, tensor] : trained_tensors(decoder_)) names_.push_back(name);
    optimizer_.emplace(trainable_parameters(decoder_), AdamWOptions{.weight_decay = options_.weight_decay});
    return {};
  }

  bool starts_from(const char* file) const { return !options_.init_adapter.empty() && fs::exists(options_.init_adapter / file); }

  Status attach_lora() {
    // Indexers alone are no adapter to go on from.
    if (options_.init_adapter.empty() || (options_.dsa != IndexerStage::kNone && !starts_from(models::kAdapterConfigFile))) {
      return models::attach_adapter(decoder_, adapter_, options_.seed);
    }
    auto read = models::read_adapter(decoder_, options_.init_adapter);
    if (!read) return refuse("--init_adapter does not fit this model: {}", read.error().message);
    adapter_ = *read;
    adapter_.dropout = options_.adapter.dropout;
    adapter_.base_model = options_.model_name;
    for (auto* layer : models::linear_layers(decoder_)) {
      if (layer->lora) layer->lora->dropout = adapter_.dropout;
    }
    return {};
  }

  Status attach_indexers() {
    const bool warmup = options_.dsa == IndexerStage::kWarmup;
    if (warmup && starts_from(models::kAdapterConfigFile)) {
      return refuse("--dsa warmup trains indexers for the model as it is: merge the LoRA adapter in {} first (deepseek-cli merge) and use that model", options_.init_adapter.string());
    }
    if (models::holds_indexer(options_.init_adapter)) {
      auto read = models::read_indexers(decoder_, options_.init_adapter);
      if (!read) return refuse("--init_adapter does not fit this model: {}", read.error().message);
      const int64_t asked = indexer_.top_k;
      indexer_ = *read;
      if (asked > 0) indexer_.top_k = asked;
    } else if (!warmup || !options_.init_adapter.empty()) {
      return refuse("--dsa {}: {} holds no indexer; --dsa warmup makes one", name_of(options_.dsa),
                    options_.init_adapter.empty() ? "without --init_adapter there is none to go on from, or" : options_.init_adapter.string());
    } else {
      if (indexer_.top_k == 0) indexer_.top_k = models::IndexerConfig().top_k;
      if (auto done = models::attach_indexers(decoder_, indexer_, options_.seed); !done) return done;
    }
    indexer_.base_model = options_.model_name;
    indexer_.stage = name_of(options_.dsa);
    if (auto sound = models::check_indexer_config(indexer_); !sound) return sound;
    if (data_.longest <= indexer_.top_k) {
      return refuse("--dsa {}: the longest example has {} tokens and a query keeps {}, so nothing would be left out: use longer texts, a larger --context or a smaller --dsa_top_k",
                    name_of(options_.dsa), data_.longest, indexer_.top_k);
    }
    decoder_.set_reads({!warmup, {.value = static_cast<double>(indexer_.top_k)}});
    return {};
  }

  Status rate_difficulty() {
    Difficulty by = options_.difficulty;
    if (by == Difficulty::kAuto) by = data_.has_difficulty ? Difficulty::kField : Difficulty::kLength;
    if (by == Difficulty::kField && !data_.has_difficulty) return refuse("not every training row has a difficulty; use --difficulty length or loss");
    auto& difficulty = state_.difficulty;
    if (by == Difficulty::kLoss) {
      const std::vector<float> values = losses("difficulty", data_.train);
      difficulty.assign(values.begin(), values.end());
      return {};
    }
    for (const auto& example : data_.train) {
      difficulty.push_back(by == Difficulty::kField ? example.difficulty : static_cast<double>(example.tokens.size()));
    }
    return {};
  }

  struct HeldOut {
    double loss = 0, recall = -1;
  };
  // Mean loss of each example; every process measures its share. Where the user stops it, interrupted_ is set in all.
  std::vector<float> losses(const char* what, std::span<const models::TokenizedExample> examples, HeldOut* held_out = nullptr) {
    std::vector<models::TokenizedExample> mine;
    std::vector<size_t> place;
    for (size_t i = static_cast<size_t>(parallel_.rank()); i < examples.size(); i += static_cast<size_t>(parallel_.size())) {
      mine.push_back(examples[i]);
      place.push_back(i);
    }
    const auto progress = [&](size_t done) {
      if (hooks_.measuring && parallel_.first()) {
        hooks_.measuring(what, std::min(examples.size(), done * static_cast<size_t>(parallel_.size())), examples.size());
      }
      return !(hooks_.stop && hooks_.stop());
    };
    std::vector<ExampleLoss> measured;
    if (!mine.empty()) {
      measured = options_.dsa == IndexerStage::kWarmup ? indexer_losses(decoder_, mine, options_.micro_batch_tokens, indexer_.top_k, progress)
                                                       : example_losses(decoder_, mine, options_.micro_batch_tokens, progress);
    }
    std::vector<float> out(examples.size(), 0.0f);
    interrupted_ = parallel_.any(measured.size() < mine.size());
    if (interrupted_) return out;
    double sum = 0, counted = 0, kept = 0, most = 0;
    for (size_t i = 0; i < measured.size(); ++i) {
      out[place[i]] = static_cast<float>(measured[i].sum / static_cast<double>(measured[i].counted));
      sum += measured[i].sum;
      counted += static_cast<double>(measured[i].counted);
      kept += measured[i].kept;
      most += measured[i].most;
    }
    parallel_.sum(out);
    for (double* total : {&sum, &counted, &kept, &most}) parallel_.sum(*total);
    if (held_out != nullptr) *held_out = {sum / counted, most > 0 ? kept / most : -1};
    return out;
  }

  Status open_metrics() {
    if (!parallel_.first()) return {};
    auto metrics = Metrics::open(options_.output / "metrics.jsonl", options_.resume ? std::optional(state_.step) : std::nullopt);
    if (!metrics) return base::pass(metrics);
    metrics_.emplace(std::move(*metrics));
    if (options_.resume) return {};
    int64_t trained = 0;
    for (const auto& parameter : optimizer_->parameters()) trained += parameter.numel();
    Json line{{"type", "start"}};
    for (const auto& [key, value] : options_.start.items()) line[key] = value;
    line["parameters_total"] = decoder_.config().parameters();
    line["parameters_trained"] = trained;
    line["steps_total"] = total_;
    emit(line);
    return {};
  }

  // A line that cannot be written ends the run at the next point where all processes meet.
  void emit(const Json& line) {
    if (!parallel_.first()) return;
    if (metrics_) {
      if (auto done = metrics_->write(line); !done && trouble_) trouble_ = done;
    }
    if (hooks_.event) hooks_.event(line);
  }

  Status measure_base() {
    if (data_.validation.empty()) return {};
    HeldOut held_out;
    losses("held-out loss", data_.validation, &held_out);
    state_.base_loss = held_out.loss;
    state_.base_recall = held_out.recall;
    if (interrupted_) return {};
    if (!std::isfinite(state_.base_loss)) {
      return fail("the model's loss on the validation rows is not a number: its weights are broken for this type; try --dtype f32");
    }
    emit_evaluation(held_out, false);
    return {};
  }

  Status step(Curriculum& curriculum) {
    const Admission admission = curriculum.admission(state_.step);
    if (admission.stage != stage_) {
      stage_ = admission.stage;
      emit({{"type", "stage"}, {"step", state_.step}, {"stage", admission.stage}, {"stages", options_.curriculum_steps},
            {"admitted", admission.admitted}, {"examples", data_.train.size()}, {"difficulty_from", admission.easiest},
            {"difficulty_to", admission.hardest}});
    }
    Batch batch;
    for (const size_t index : curriculum.next(examples_per_step())) batch.push_back(&data_.train[index]);
    const Schedule schedule{options_.schedule, options_.learning_rate, std::llround(options_.warmup * static_cast<double>(total_)), total_};
    const double rate = schedule.at(state_.step);
    const uint64_t dropout_seed = mixed(options_.seed * 2654435761u + static_cast<uint64_t>(state_.step)) | 1;
    const StepOptions step_options{options_.micro_batch_tokens, options_.checkpoint, options_.max_grad_norm, adapter_.dropout > 0 ? dropout_seed : 0, options_.dsa};
    const double before = seconds();
    const StepResult result = train_step(decoder_, *optimizer_, batch, rate, step_options, parallel_);
    last_loss_ = result.loss;
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      if (state_.step == 0) return fail("the loss of the first step is not a number: the weights are broken for this type; try --dtype f32");
      return fail("the loss is no number any more at step {}: lower --learning_rate{}; what was saved before remains", state_.step + 1,
                  decoder_.dtype() == at::kBFloat16 ? " or use --dtype f32" : "");
    }
    ++state_.step;
    const double now = seconds();
    const double epoch = static_cast<double>(state_.step * examples_per_step()) / static_cast<double>(data_.train.size());
    Json line{{"type", "step"}, {"step", state_.step}, {"epoch", epoch}, {"stage", stage_}, {"loss", result.loss}, {"learning_rate", rate},
              {"gradient_norm", result.gradient_norm}, {"tokens", result.tokens},
              {"tokens_per_second", static_cast<double>(result.tokens) / (now - before)}, {"seconds", now}};
    if (options_.dsa == IndexerStage::kSparse) line["indexer_loss"] = result.indexer_loss;
    emit(line);
    return {};
  }

  Status evaluate() {
    HeldOut held_out;
    if (!data_.validation.empty()) losses("held-out loss", data_.validation, &held_out);
    const double loss = held_out.loss;
    if (interrupted_) return {};  // a resumed run begins with this evaluation
    state_.evaluation_due = false;
    if (data_.validation.empty()) return {};
    const bool best = state_.best_loss < 0 || loss < state_.best_loss;
    if (best) {
      state_.best_loss = loss;
      state_.best_step = state_.step;
      state_.best_recall = held_out.recall;
      state_.bad_evaluations = 0;
      if (auto done = write_adapter(options_.output); !done) return done;
    } else {
      ++state_.bad_evaluations;
    }
    emit_evaluation(held_out, best);
    return {};
  }

  void emit_evaluation(const HeldOut& held_out, bool best) {
    Json line{{"type", "evaluation"}, {"step", state_.step}, {"loss", held_out.loss}};
    if (options_.dsa != IndexerStage::kWarmup) line["perplexity"] = std::exp(held_out.loss);
    if (held_out.recall >= 0) line["recall"] = held_out.recall;
    line["best"] = best;
    emit(line);
  }

  Status write_adapter(const fs::path& directory) const {
    if (!parallel_.first()) return {};
    if (options_.dsa != IndexerStage::kNone) {
      if (auto done = models::write_indexers(decoder_, indexer_, directory); !done) return done;
    }
    return options_.dsa == IndexerStage::kWarmup ? Status() : models::write_adapter(decoder_, adapter_, directory);
  }

  Status save() {
    state_.seconds = seconds();
    state_.threads = at::get_num_threads();
    state_.processes = parallel_.size();
    if (parallel_.first()) {
      if (auto done = write_adapter(options_.output / "last"); !done) return done;
      if (auto done = save_state(state_file(), state_, names_, *optimizer_); !done) return done;
    }
    saved_step_ = state_.step;
    return {};
  }

  Result<TrainSummary> ended(const std::string& reason) {
    if (auto done = everywhere(save()); !done) return with_way_on(done);
    if (data_.validation.empty() && reason != "interrupted") {
      if (auto done = everywhere(write_adapter(options_.output)); !done) return with_way_on(done);
    }
    const auto number = [](double value) { return value < 0 ? Json(nullptr) : Json(value); };
    const Json line{{"type", "end"}, {"step", state_.step}, {"reason", reason}, {"best_step", state_.best_step},
                    {"best_loss", number(state_.best_loss)}, {"base_loss", number(state_.base_loss)}, {"seconds", state_.seconds}};
    emit(line);
    if (auto done = everywhere({}); !done) return with_way_on(done);
    return TrainSummary{state_.step, state_.best_step, state_.base_recall, state_.best_recall, state_.base_loss, state_.best_loss, last_loss_, state_.seconds, reason};
  }

  models::Decoder& decoder_;
  const TrainingData& data_;
  const TrainOptions& options_;
  const TrainHooks& hooks_;
  const Parallel& parallel_;
  int64_t total_, eval_every_, save_every_;
  models::AdapterConfig adapter_;
  models::IndexerConfig indexer_;
  std::vector<std::string> names_;
  std::optional<AdamW> optimizer_;
  std::optional<Metrics> metrics_;
  TrainState state_;
  Status trouble_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double seconds_before_ = 0, last_loss_ = -1;
  int64_t stage_ = 0, saved_step_ = 0;
  bool interrupted_ = false;
};

}  // namespace

Result<Difficulty> difficulty_named(const std::string& name) {
  for (const auto difficulty : {Difficulty::kAuto, Difficulty::kField, Difficulty::kLength, Difficulty::kLoss}) {
    if (name == name_of(difficulty)) return difficulty;
  }
  return refuse("difficulty '{}' is unknown; use auto, field, length or loss", name);
}

Status check_options(const TrainOptions& options) {
  const auto positive = [](const char* name, double value) -> Status {
    if (value > 0 && std::isfinite(value)) return {};
    return refuse("--{} is {}; it must be above 0", name, value);
  };
  const auto not_negative = [](const char* name, double value) -> Status {
    if (value >= 0 && std::isfinite(value)) return {};
    return refuse("--{} is {}; it must not be negative", name, value);
  };
  for (const auto& status : {positive("epochs", options.epochs), not_negative("steps", static_cast<double>(options.steps)),
                             positive("batch_size", static_cast<double>(options.batch_size)),
                             positive("gradient_accumulation", static_cast<double>(options.gradient_accumulation)),
                             positive("micro_batch_tokens", static_cast<double>(options.micro_batch_tokens)),
                             positive("learning_rate", options.learning_rate), not_negative("weight_decay", options.weight_decay),
                             not_negative("max_grad_norm", options.max_grad_norm),
                             positive("curriculum_steps", static_cast<double>(options.curriculum_steps)),
                             not_negative("eval_every", static_cast<double>(options.eval_every)),
                             not_negative("save_every", static_cast<double>(options.save_every)),
                             not_negative("early_stopping", static_cast<double>(options.early_stopping))}) {
    if (!status) return status;
  }
  if (!(options.warmup >= 0 && options.warmup <= 1)) return refuse("--warmup is {}; it is a share of the steps, 0 to 1", options.warmup);
  if (options.curriculum_steps > 1000) return refuse("--curriculum_steps is {}; more than 1,000 stages make no curriculum", options.curriculum_steps);
  if (options.batch_size > 65536) return refuse("--batch_size is {}; use at most 65,536", options.batch_size);
  if (options.gradient_accumulation > 65536) return refuse("--gradient_accumulation is {}; use at most 65,536", options.gradient_accumulation);
  if (const int64_t examples = options.batch_size * options.gradient_accumulation; examples > 1'048'576) {
    return refuse("--batch_size times --gradient_accumulation makes {} examples a step; use at most 1,048,576", examples);
  }
  if (options.steps > 1'000'000'000) return refuse("--steps {} would never end; use at most 1,000,000,000", options.steps);
  if (options.epochs > 1e6) return refuse("--epochs {} would never end; use at most 1,000,000", options.epochs);
  return {};
}

Status prepare_output(const TrainOptions& options, const Parallel& parallel) {
  std::error_code error;
  const fs::path last = options.output / "last", state = last / kStateFile;
  if (options.resume && !fs::exists(state, error)) return refuse("there is nothing to resume: {} does not exist", state.string());
  const bool used = fs::exists(options.output / models::kAdapterWeightsFile, error) || fs::exists(options.output / models::kIndexerWeightsFile, error) || fs::exists(state, error);
  if (used && !options.resume && !options.overwrite) {
    return refuse("{} holds an earlier run: use --resume to go on with it, --overwrite to replace it, or another --output", options.output.string());
  }
  if (!parallel.first()) return {};
  fs::create_directories(last, error);
  if (error) return fail("cannot create {}: {}", last.string(), error.message());
  for (const auto& directory : {options.output, last}) {
    remove_remains(directory);
    if (auto file = base::AtomicFile::create(directory / "metrics.jsonl"); !file) return base::pass(file);
  }
  return {};
}

int64_t total_steps(const TrainOptions& options, size_t examples) {
  if (options.steps > 0) return options.steps;
  const double per_epoch = static_cast<double>(examples) / static_cast<double>(options.batch_size * options.gradient_accumulation);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(options.epochs * per_epoch - 1e-9)));
}

Result<TrainSummary> fine_tune(models::Decoder& decoder, const TrainingData& data, const TrainOptions& options, const TrainHooks& hooks,
                               const Parallel& parallel) {
  if (auto sound = check_options(options); !sound) return base::pass(sound);
  if (data.train.empty()) return fail("there are no rows to train on");
  return Run(decoder, data, options, hooks, parallel).go();
}

}  // namespace deepseek::train
