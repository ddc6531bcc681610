// fine-tune: a LoRA adapter for a model on a dataset, with a curriculum.
#include <ATen/Parallel.h>

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/log.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/indexer_options.h"
#include "engine/generator.h"
#include "hardware/cpu.h"
#include "hardware/memory.h"
#include "models/adapter/adapter.h"
#include "models/model.h"
#include "models/prompt.h"
#include "train/memory_plan.h"
#include "train/metrics.h"
#include "train/report/report.h"
#include "train/trainer.h"

namespace deepseek::cli {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::ordered_json;
namespace fs = base::fs;

struct Arguments {
  std::string model, dataset, output, init_adapter;
  std::vector<std::string> target_modules{"all-linear"}, exclude_modules;
  std::vector<int64_t> layers;
  std::string rank_pattern, alpha_pattern;
  std::string curriculum_order = "forward", curriculum_schedule = "steps", difficulty = "auto", difficulty_field = "difficulty";
  std::string schedule = "cosine", loss_on = "answer", validation = "0.1", checkpointing = "auto", dtype = "auto", memory_limit;
  int64_t context = 0, samples = 3;
  train::TrainOptions train;
  IndexerArguments indexer;
  const CLI::App *adapter_options = nullptr, *app = nullptr;  ///< to see which of them were given
};

void add_options(CLI::App& app, Arguments& a) {
  app.add_option("--model", a.model, "name, directory or .gguf")->required();
  app.add_option("--dataset", a.dataset, "JSON or JSONL: question/answer, alpaca, sharegpt, OpenAI messages, text")->required();
  app.add_option("--output", a.output, "directory for the adapter [MODEL-DATASET-lora]");
  auto* lora = app.add_option_group("Adapter");
  a.adapter_options = lora;
  lora->add_option("--lora_rank", a.train.adapter.rank, "rank r")->capture_default_str();
  lora->add_option("--lora_alpha", a.train.adapter.alpha, "scale is alpha / r")->capture_default_str();
  lora->add_option("--lora_dropout", a.train.adapter.dropout, "dropout before A")->capture_default_str();
  lora->add_option("--target_modules", a.target_modules, "all-linear, names separated by commas, or one regular expression")->delimiter(',')->capture_default_str();
  lora->add_option("--exclude_modules", a.exclude_modules, "names or one regular expression")->delimiter(',');
  lora->add_option("--layers_to_transform", a.layers, "only these layers")->delimiter(',');
  lora->add_option("--rank_pattern", a.rank_pattern, "other ranks for some modules: q_proj=8,down_proj=32");
  lora->add_option("--alpha_pattern", a.alpha_pattern, "other alphas for some modules");
  lora->add_flag("--use_rslora", a.train.adapter.use_rslora, "scale alpha / sqrt(r)");
  lora->add_flag("--use_dora", a.train.adapter.use_dora, "train magnitudes too (DoRA)");
  lora->add_option("--init_adapter", a.init_adapter, "go on from this PEFT adapter, or from these indexers");
  a.app = &app;
  add_indexer_options(app, a.indexer);
  auto* curriculum = app.add_option_group("Curriculum");
  curriculum->add_option("--curriculum_steps", a.train.curriculum_steps, "stages from easy to hard; 1: none")->capture_default_str();
  curriculum->add_option("--curriculum_order", a.curriculum_order, "forward, reverse or random")->capture_default_str();
  curriculum->add_option("--curriculum_schedule", a.curriculum_schedule, "steps or competence")->capture_default_str();
  curriculum->add_option("--difficulty", a.difficulty, "auto, field, length or loss (of the base model)")->capture_default_str();
  curriculum->add_option("--difficulty_field", a.difficulty_field, "the dataset's field")->capture_default_str();
  auto* run = app.add_option_group("Training");
  run->add_option("--epochs", a.train.epochs, "passes over the dataset")->capture_default_str();
  run->add_option("--steps", a.train.steps, "optimiser steps, instead of epochs");
  run->add_option("--batch_size", a.train.batch_size, "examples of one pass")->capture_default_str();
  run->add_option("--gradient_accumulation", a.train.gradient_accumulation, "passes for one step")->capture_default_str();
  run->add_option("--micro_batch_tokens", a.train.micro_batch_tokens, "tokens computed at one time")->capture_default_str();
  run->add_option("--context", a.context, "longest example in tokens; 0: the model's own")->capture_default_str();
  run->add_option("--learning_rate", a.train.learning_rate, "peak")->capture_default_str();
  run->add_option("--schedule", a.schedule, "cosine, linear or constant")->capture_default_str();
  run->add_option("--warmup", a.train.warmup, "share of the steps")->capture_default_str();
  run->add_option("--weight_decay", a.train.weight_decay, "AdamW's")->capture_default_str();
  run->add_option("--max_grad_norm", a.train.max_grad_norm, "clip gradients; 0: never")->capture_default_str();
  run->add_option("--loss_on", a.loss_on, "answer or all")->capture_default_str();
  run->add_option("--validation", a.validation, "share held out where the dataset has no split field")->capture_default_str();
  run->add_option("--eval_every", a.train.eval_every, "steps; 0: five times")->capture_default_str();
  run->add_option("--early_stopping", a.train.early_stopping, "evaluations without a better one; 0: never")->capture_default_str();
  run->add_option("--save_every", a.train.save_every, "steps; 0: at each evaluation")->capture_default_str();
  run->add_flag("--resume", a.train.resume, "go on with the run in --output");
  run->add_flag("--overwrite", a.train.overwrite, "replace the run in --output");
  run->add_option("--seed", a.train.seed, "of all that is random")->check(CLI::NonNegativeNumber)->capture_default_str();
  run->add_option("--samples", a.samples, "held-out questions answered before and after")->check(CLI::NonNegativeNumber)->capture_default_str();
  auto* machine = app.add_option_group("Machine");
  machine->add_option("--dtype", a.dtype, "auto, f32 or bf16 for the frozen weights")->capture_default_str();
  machine->add_option("--gradient_checkpointing", a.checkpointing, "auto, on or off")->capture_default_str();
  machine->add_option("--memory_limit", a.memory_limit, "refuse runs above it: 12GiB, 800MB [what is free]");
}

// One entry with signs that no module's name has is a regular expression over whole names.
void split_pattern(const std::vector<std::string>& given, std::vector<std::string>& names, std::string& pattern) {
  names = given;
  pattern.clear();
  if (given.empty() || std::none_of(given.begin(), given.end(), [](const auto& name) { return name.find_first_of("*+?()[]|^$\\{}") != std::string::npos; })) return;
  for (const auto& part : given) pattern += (pattern.empty() ? "" : ",") + part;  // a comma belonged to the expression
  names.clear();
}

template <typename Value>
Status parse_pairs(const char* option, const std::string& text, std::vector<std::pair<std::string, Value>>& out) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    const size_t equals = part.rfind('=');
    double value = 0;
    size_t used = 0;
    try {
      if (equals != std::string::npos && equals > 0) value = std::stod(part.substr(equals + 1), &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used == 0 || used != part.size() - equals - 1) return base::refuse("--{} has the part '{}', which is not NAME=NUMBER", option, part);
    out.emplace_back(part.substr(0, equals), static_cast<Value>(value));
    at = end + 1;
  }
  return {};
}

Result<uint64_t> parse_bytes(const std::string& text) {
  const auto wrong = [&] { return base::refuse("--memory_limit is '{}'; write it as 12GiB, 800MB or a number of bytes", text); };
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    return wrong();
  }
  const std::string unit = text.substr(used);
  static const std::vector<std::pair<std::string, double>> kUnits{{"", 1},     {"B", 1},      {"KB", 1e3},    {"MB", 1e6},    {"GB", 1e9},
                                                                  {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {"G", 1073741824}, {"M", 1048576}};
  for (const auto& [name, factor] : kUnits) {
    if (unit == name && value > 0 && value * factor < 1e18) return static_cast<uint64_t>(value * factor);
  }
  return wrong();
}

Result<models::LossOn> loss_on_named(const std::string& name) {
  if (name == "answer") return models::LossOn::kAnswer;
  if (name == "all") return models::LossOn::kAll;
  return base::refuse("--loss_on is '{}'; use answer or all", name);
}

template <typename T>
Status assign(Result<T> value, T& into) {
  if (!value) return base::pass(value);
  into = std::move(*value);
  return {};
}

// "gemma-3-270m" or the last part of a path, without what no directory's name should have.
std::string short_name(const std::string& spec) {
  std::string name = fs::path(spec).stem().string();
  if (name.empty()) name = fs::path(spec).parent_path().filename().string();
  std::replace(name.begin(), name.end(), '/', '-');
  return name.empty() ? "model" : name;
}

Status resolve(Arguments& a) {
  split_pattern(a.target_modules, a.train.adapter.target_modules, a.train.adapter.target_pattern);
  split_pattern(a.exclude_modules, a.train.adapter.exclude_modules, a.train.adapter.exclude_pattern);
  a.train.adapter.layers_to_transform = a.layers;
  a.train.init_adapter = a.init_adapter;
  a.train.model_name = a.model;
  if (auto done = resolve_indexer(a.indexer, *a.app, a.context, a.train); !done) return done;
  const std::string kind = a.train.dsa == train::IndexerStage::kNone ? "lora" : a.indexer.stage;
  a.train.output = a.output.empty() ? short_name(a.model) + "-" + short_name(a.dataset) + "-" + kind : a.output;
  for (const auto& status : {parse_pairs("rank_pattern", a.rank_pattern, a.train.adapter.rank_pattern),
                             parse_pairs("alpha_pattern", a.alpha_pattern, a.train.adapter.alpha_pattern),
                             assign(train::order_named(a.curriculum_order), a.train.curriculum_order),
                             assign(train::pace_named(a.curriculum_schedule), a.train.curriculum_schedule),
                             assign(train::difficulty_named(a.difficulty), a.train.difficulty),
                             assign(train::schedule_kind(a.schedule), a.train.schedule), train::check_options(a.train)}) {
    if (!status) return status;
  }
  return {};
}

// For a command that a person copies into a shell.
std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) { return c >= 0x80 || std::isalnum(c) != 0 || std::strchr("_-./:@%+=,", c) != nullptr; };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// A bare name of a file that lies in data/, or one that is nearly right.
std::string other_dataset(const fs::path& missing) {
  std::error_code error;
  if (fs::exists("data" / missing, error)) return "data/" + missing.string();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(missing.has_parent_path() ? missing.parent_path() : fs::path("."), error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".json") || name.ends_with(".jsonl")) names.push_back(name);
  }
  const std::string near = base::nearest(missing.filename().string(), names);
  return near.empty() ? "" : (missing.parent_path() / near).string();
}

// What is wrong with the dataset and with the model is said at once: both may have to be fetched.
base::Error both_wrong(const std::string& dataset, base::Error error, const std::string& model) {
  std::error_code ignored;
  if (fs::exists(dataset, ignored)) return error;
  if (const std::string other = other_dataset(dataset); !other.empty()) error.message += "; did you mean " + shell_word(other) + "?";
  if (auto text = models::open_model(model); !text) error.message += "\nerror: " + text.error().message;
  return error;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

struct Sample {
  std::string question, expected, before, after;
};

// The same number of rows from each part of the held-out set, so that easy and hard ones are both seen.
std::vector<const formats::Example*> chosen_samples(const std::vector<formats::Example>& held_out, int64_t count) {
  std::vector<const formats::Example*> out;
  std::vector<const formats::Example*> with_answers;
  for (const auto& example : held_out) {
    if (example.messages.size() >= 2) with_answers.push_back(&example);
  }
  std::stable_sort(with_answers.begin(), with_answers.end(), [](const auto* x, const auto* y) { return x->difficulty.value_or(0) < y->difficulty.value_or(0); });
  const auto n = static_cast<int64_t>(with_answers.size());
  for (int64_t i = 0; i < std::min(count, n); ++i) out.push_back(with_answers[static_cast<size_t>(i * n / std::min(count, n))]);
  return out;
}

std::string answer(const models::Model& model, const formats::Example& example) {
  const std::vector<formats::ChatMessage> question(example.messages.begin(), example.messages.end() - 1);
  auto prompt = model.encode_chat(question, true);
  if (!prompt) return prompt.error().message;
  engine::GenerateOptions options;
  options.max_new_tokens = 96;
  options.sampling.temperature = 0;
  options.eos_ids = model.generation.eos_ids;
  options.stop = {"\nQuestion:"};
  options.stop_requested = [] { return base::interrupted(); };
  auto text = engine::generate(*engine::plain_model(*model.decoder), model.tokenizer, *prompt, options);
  if (!text) return text.error().message;
  const size_t begin = text->text.find_first_not_of(" \n");
  return begin == std::string::npos ? "" : text->text.substr(begin);
}

class FineTuneRun {
 public:
  FineTuneRun(Arguments arguments, const Context& context) : a_(std::move(arguments)), context_(context), parallel_(train::Parallel::join()) {}

  Status go() {
    if (parallel_.size() == 1) {
      if (auto done = prepare(); !done) return done;
      return train();
    }
    try {
      if (auto done = together(prepare()); !done) return done;
      return together(train());
    } catch (const std::exception& error) {
      // The others wait for this process in the middle of a step.
      const std::string text = error.what();
      base::log_error(text.substr(0, text.find('\n')));
      parallel_.abort(1);
      throw;
    }
  }

 private:
  // Where one process cannot go on, none does; a sentence that all would say is said by the first alone.
  Status together(Status mine) {
    if (!parallel_.any(!mine)) return mine;
    const bool first_speaks = parallel_.any(parallel_.first() && !mine);
    if (mine) mine = base::fail("another process of this run failed");
    if (first_speaks && !parallel_.first()) std::exit(mine.error().kind == base::ErrorKind::kRequest ? 2 : 1);
    return mine;
  }

  // All that can be wrong with the request, before weights are read.
  Status prepare() {
    if (auto done = resolve(a_); !done) return done;
    auto loss_on = loss_on_named(a_.loss_on);
    if (!loss_on) return base::pass(loss_on);
    auto dataset = formats::read_dataset(a_.dataset, {.difficulty_field = a_.difficulty_field});
    if (!dataset) return tl::make_unexpected(both_wrong(a_.dataset, dataset.error(), a_.model));
    say("dataset: " + dataset->description);
    auto text = models::open_model(a_.model);
    if (!text) return base::pass(text);
    if (auto fits = models::require_decoder(*text); !fits) return fits;
    train::DataOptions data_options{.loss_on = *loss_on, .context = a_.context, .vocabulary = text->config.vocab_size,
                                    .join = a_.train.dsa != train::IndexerStage::kNone, .seed = a_.train.seed};
    const int64_t most = text->config.max_position_embeddings;
    if (data_options.join && !a_.app->get_option("--context")->count()) data_options.context = std::min(data_options.context, most);
    if (auto done = parse_share(data_options.validation_share); !done) return done;
    auto data = train::prepare_data(*dataset, text->tokenizer, text->chat(), most, data_options);
    if (!data) return base::within(a_.dataset, data.error());
    data_ = std::move(*data);
    if (auto done = plan(*text, data_, *dataset); !done) return done;
    if (auto done = train::prepare_output(a_.train, parallel_); !done) return done;
    auto model = models::load_weights(std::move(*text), {.dtype = a_.dtype});
    if (!model) return base::pass(model);
    model_.emplace(std::move(*model));
    return {};
  }

  void say(const std::string& line) const {
    if (parallel_.first() && !context_.quiet) base::log_info(line);
  }

  Status parse_share(double& share) const {
    size_t used = 0;
    try {
      share = std::stod(a_.validation, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != a_.validation.size() || !(share >= 0 && share < 1)) return base::refuse("--validation is '{}'; it is a share of the rows, 0 to below 1", a_.validation);
    return {};
  }

  Status plan(const models::ModelText& text, const train::TrainingData& data, const formats::Dataset& dataset) {
    const bool indexer_alone = a_.train.dsa != train::IndexerStage::kNone && !fs::exists(fs::path(a_.init_adapter) / models::kAdapterConfigFile);
    if (!a_.init_adapter.empty() && !indexer_alone) {
      auto config = models::read_adapter_config(a_.init_adapter);
      if (!config) return base::pass(config);
      if (auto done = take_adapter(*config); !done) return done;
    }
    auto trained = a_.train.dsa == train::IndexerStage::kWarmup ? Result<int64_t>(0) : train::adapter_parameters(text.config, a_.train.adapter);
    if (!trained) return base::pass(trained);
    if (a_.train.dsa != train::IndexerStage::kNone) {
      auto indexers = indexer_parameters(text.config, a_.train.indexer);
      if (!indexers) return base::pass(indexers);
      *trained += *indexers;
    }
    auto dtype = models::resolve_dtype(a_.dtype);
    if (!dtype) return base::pass(dtype);
    uint64_t available = hardware::memory().available;
    if (!a_.memory_limit.empty()) {
      auto limit = parse_bytes(a_.memory_limit);
      if (!limit) return base::pass(limit);
      available = *limit;
    }
    available /= static_cast<uint64_t>(parallel_.size());
    int64_t tokens = 0;
    for (const auto& example : data.train) tokens += static_cast<int64_t>(example.tokens.size());
    const int64_t batch_tokens = std::min<int64_t>(a_.train.micro_batch_tokens, data.longest * a_.train.batch_size * a_.train.gradient_accumulation);
    auto fitting = train::fitting_plan(text.config, *trained, {.element_size = *dtype == at::kBFloat16 ? 2 : 4, .micro_batch_tokens = batch_tokens, .longest = data.longest},
                                       a_.checkpointing, available);
    if (!fitting) return base::pass(fitting);
    a_.train.checkpoint = fitting->checkpoint;
    const double frozen = 100.0 * static_cast<double>(fitting->parameters) / static_cast<double>(fitting->parameters + fitting->trained);
    say(fmt::format("rows: {} to train on ({} tokens), {} held out, {} of split test left alone", data.train.size(), base::with_commas(static_cast<uint64_t>(tokens)),
                    data.validation.size(), data.test_rows));
    say(fmt::format("model: {} in {}, {:.1f}% of the parameters stay frozen", a_.model, *dtype == at::kBFloat16 ? "bf16" : "f32", frozen));
    say("memory plan:\n" + fitting->table(available));
    record_start(dataset, *dtype == at::kBFloat16 ? "bf16" : "f32");
    return {};
  }

  // The adapter that training goes on from decides its own shape; dropout is this run's.
  Status take_adapter(const models::AdapterConfig& config) {
    for (const auto* option : a_.adapter_options->get_options()) {
      const std::string name = option->get_single_name();
      if (option->count() == 0 || name == "lora_dropout" || name == "init_adapter") continue;
      return base::refuse("--{} cannot be changed with --init_adapter: {} decides it; leave one of the two out", name, a_.init_adapter);
    }
    const bool given = a_.adapter_options->get_option("--lora_dropout")->count() > 0;
    const double dropout = given ? a_.train.adapter.dropout : config.dropout;
    a_.train.adapter = config;
    a_.train.adapter.dropout = dropout;
    return {};
  }

  void record_start(const formats::Dataset& dataset, const char* dtype) {
    a_.train.start = {{"time", utc_now()}, {"command", context_.command_line}, {"model", a_.model}, {"dataset", a_.dataset}, {"dataset_format", dataset.description},
                      {"cpu", hardware::cpu().name}, {"threads", at::get_num_threads()}, {"processes", parallel_.size()}, {"dtype", dtype}};
    a_.train.start["options"] = {{"lora_rank", a_.train.adapter.rank}, {"lora_alpha", a_.train.adapter.alpha}, {"lora_dropout", a_.train.adapter.dropout},
                                 {"use_rslora", a_.train.adapter.use_rslora}, {"use_dora", a_.train.adapter.use_dora},
                                 {"curriculum_steps", a_.train.curriculum_steps}, {"curriculum_order", a_.curriculum_order},
                                 {"curriculum_schedule", a_.curriculum_schedule}, {"difficulty", a_.difficulty}, {"batch_size", a_.train.batch_size},
                                 {"gradient_accumulation", a_.train.gradient_accumulation}, {"learning_rate", a_.train.learning_rate}, {"schedule", a_.schedule},
                                 {"warmup", a_.train.warmup}, {"loss_on", a_.loss_on}, {"seed", a_.train.seed}};
    if (a_.train.dsa == train::IndexerStage::kNone) return;
    a_.train.start["options"].update({{"dsa", a_.indexer.stage}, {"dsa_top_k", a_.train.indexer.top_k}, {"dsa_heads", a_.train.indexer.heads}, {"dsa_dim", a_.train.indexer.dim}});
  }

  Status train() {
    models::Model& model = *model_;
    const auto samples = parallel_.first() && a_.train.dsa != train::IndexerStage::kWarmup ? chosen_samples(data_.held_out, a_.samples) : std::vector<const formats::Example*>();
    std::vector<Sample> answers;
    for (const auto* example : samples) {
      if (base::interrupted()) break;
      const auto& messages = example->messages;
      answers.push_back({messages[messages.size() - 2].content, messages.back().content, answer(model, *example), ""});
      measured("answers before training", answers.size(), samples.size());
    }
    const train::TrainHooks hooks{.event = [this](const Json& line) { show(line); },
                                  .stop = [] { return base::interrupted(); },
                                  .measuring = [this](const char* what, size_t done, size_t all) { measured(what, done, all); }};
    auto summary = train::fine_tune(*model.decoder, data_, a_.train, hooks, parallel_);
    progress_.reset();
    measuring_.reset();
    if (!summary) return base::pass(summary);
    if (!parallel_.first()) return {};
    if (summary->reason != "interrupted") {
      if (auto done = answer_again(model, samples, answers); !done) return done;
    }
    if (summary->resumable) {
      const fs::path html = a_.train.output / "report.html";
      if (auto done = train::write_report(a_.train.output / "metrics.jsonl", html); !done) base::log_warn("no report: " + done.error().message);
    }
    finish(*summary, answers);
    return {};
  }

  // The best adapter answers what the base model answered before.
  Status answer_again(models::Model& model, const std::vector<const formats::Example*>& samples, std::vector<Sample>& answers) {
    if (answers.empty()) return {};
    if (auto best = models::read_adapter(*model.decoder, a_.train.output); !best) return base::pass(best);
    if (models::holds_indexer(a_.train.output)) {
      if (auto best = models::read_indexers(*model.decoder, a_.train.output); !best) return base::pass(best);
    }
    auto metrics = train::Metrics::append(a_.train.output / "metrics.jsonl");
    if (!metrics) return base::pass(metrics);
    for (size_t i = 0; i < answers.size(); ++i) {
      answers[i].after = answer(model, *samples[i]);
      measured("answers after training", i + 1, answers.size());
      const Json line{{"type", "sample"}, {"question", answers[i].question}, {"expected", answers[i].expected}, {"before", answers[i].before}, {"after", answers[i].after}};
      if (auto done = metrics->write(line); !done) return done;
    }
    return {};
  }

  // Work that is not a step has a bar of its own, in a terminal only: it lasts seconds with a small model, minutes with a large one.
  void measured(const std::string& what, size_t done, size_t all) {
    if (context_.quiet || !parallel_.first() || ::isatty(STDERR_FILENO) == 0) return;
    if (!measuring_ || measuring_what_ != what) measuring_ = std::make_unique<base::Progress>(what, all, "");
    measuring_what_ = what;
    measuring_->update(done);
    if (done >= all) measuring_.reset();
  }

  void show_resumed(const Json& line) {
    const auto step = line["step"].get<int64_t>();
    std::string text = fmt::format("resumed after step {} of {}", step, steps_);
    if (step >= steps_) text += ": the run had ended";
    for (const auto& [what, now] : {std::pair{"threads", int64_t{at::get_num_threads()}}, {"processes", int64_t{parallel_.size()}}}) {
      const auto before = line.find(std::string(what) + "_before");
      if (before == line.end()) continue;
      text += fmt::format("; {} {} instead of {}: the result may differ from the uninterrupted run's in its last bits", now, what, before->get<int64_t>());
    }
    say(text);
  }

  void show(const Json& line) {
    if (context_.quiet) return;
    const std::string type = line.value("type", "");
    if (type == "start" || type == "resume") steps_ = line["steps_total"].get<int64_t>();
    if (type == "resume") show_resumed(line);
    if (type == "stage" && line["stages"].get<int64_t>() > 1) {
      say(fmt::format("curriculum {}/{}: {} of {} examples, difficulty {:.4g} to {:.4g}", line["stage"].get<int64_t>(), line["stages"].get<int64_t>(),
                      line["admitted"].get<int64_t>(), line["examples"].get<int64_t>(), line["difficulty_from"].get<double>(), line["difficulty_to"].get<double>()));
    }
    if (type == "evaluation") {
      std::string text = fmt::format("step {}: held-out loss {:.4f}", line["step"].get<int64_t>(), line["loss"].get<double>());
      if (line.contains("perplexity")) text += fmt::format(", perplexity {:.2f}", line["perplexity"].get<double>());
      if (line.contains("recall")) text += fmt::format(", recall {:.1f}%", 100 * line["recall"].get<double>());
      say(text + (line["best"].get<bool>() ? ", the best so far" : ""));
    }
    if (type != "step") return;
    if (!progress_) progress_ = std::make_unique<base::Progress>("fine-tune", static_cast<uint64_t>(steps_), "step");
    progress_->update(static_cast<uint64_t>(line["step"].get<int64_t>()),
                      fmt::format("loss {:.3f}  {:.0f} tok/s", line["loss"].get<double>(), line["tokens_per_second"].get<double>()));
  }

  void finish(const train::TrainSummary& summary, const std::vector<Sample>& answers) const {
    const std::string output = a_.train.output.string();
    const bool measured = summary.base_loss > 0 && summary.best_loss > 0;
    if (context_.json) {
      Json json{{"output", output}, {"reason", summary.reason}, {"steps", summary.steps}, {"best_step", summary.best_step}, {"seconds", summary.seconds}};
      json["base_loss"] = summary.base_loss < 0 ? Json(nullptr) : Json(summary.base_loss);
      json["best_loss"] = summary.best_loss < 0 ? Json(nullptr) : Json(summary.best_loss);
      if (summary.best_recall >= 0) json.update({{"base_recall", summary.base_recall}, {"best_recall", summary.best_recall}});
      json["report"] = output + "/report.html";
      context_.print(json.dump() + "\n");
      return;
    }
    if (context_.quiet) return;
    std::string text;
    if (summary.reason == "interrupted") {
      text = summary.resumable ? fmt::format("stopped after step {}; go on with the same command and --resume\n", summary.steps)
                               : "stopped before the first step; nothing is saved yet, the same command begins anew\n";
      context_.print(text);
      return;
    }
    if (measured) {
      text += fmt::format("held-out loss {:.4f} -> {:.4f} ({:+.1f}%) after {} steps in {}\n", summary.base_loss, summary.best_loss,
                          100 * (summary.best_loss / summary.base_loss - 1), summary.best_step, base::human_duration(summary.seconds));
    } else {
      text += fmt::format("{} steps in {}, last loss {:.4f}\n", summary.steps, base::human_duration(summary.seconds), summary.last_loss);
    }
    if (summary.best_recall >= 0) {
      text += fmt::format("of the attention on the best {} keys the indexers find {:.1f}%, before training {:.1f}%\n", model_->decoder->reads().all_below(), 100 * summary.best_recall,
                          100 * summary.base_recall);
    }
    for (const auto& sample : answers) {
      text += fmt::format("\nquestion  {}\nexpected  {}\nbefore    {}\nafter     {}\n", sample.question, sample.expected, sample.before, sample.after);
    }
    const std::string both = fmt::format("--model {} --adapter {}", shell_word(a_.model), shell_word(output));
    if (a_.train.dsa != train::IndexerStage::kNone) {
      text += fmt::format("\nindexers  {}\nreport    {}/report.html\ntry       deepseek-cli eval {} --dataset TEXT\n", output, output, both);
      if (a_.train.dsa == train::IndexerStage::kWarmup) {
        text += fmt::format("go on     deepseek-cli fine-tune --model {} --dataset {} --dsa sparse --init_adapter {}\n", shell_word(a_.model), shell_word(a_.dataset), shell_word(output));
      }
      context_.print(text);
      return;
    }
    text += fmt::format("\nadapter   {}\nreport    {}/report.html\ntry       deepseek-cli generate {} --prompt \"...\"\n"
                        "merge     deepseek-cli merge {} --output {}\n", output, output, both, both, shell_word(output + "-merged"));
    context_.print(text);
  }

  Arguments a_;
  const Context& context_;
  train::Parallel parallel_;
  train::TrainingData data_;
  std::optional<models::Model> model_;
  std::unique_ptr<base::Progress> progress_, measuring_;
  std::string measuring_what_;
  int64_t steps_ = 0;
};

}  // namespace

Command fine_tune_command() {
  return {kFineTune, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            add_options(app, *a);
            return std::function<Status()>([a, &context] { return FineTuneRun(*a, context).go(); });
          }, true};
}

}  // namespace deepseek::cli
