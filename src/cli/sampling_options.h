// The options that generate and chat share.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "engine/generator.h"
#include "models/text.h"

namespace deepseek::cli {

/// How a model runs: of generate, chat and eval.
struct EngineArguments {
  std::string model, adapter, dtype = "auto", device = "cpu", kv_cache = "bf16", attention = "auto", plan;
};
void add_engine_options(CLI::App& app, EngineArguments& arguments);
void add_profile_option(CLI::App& app, bool& profile);
/// "keys read 41%, with 0.96 of the attention": of all layers without a sliding window, for a progress bar. Empty where a model does not know.
[[nodiscard]] std::string reads_in_short(const engine::LanguageModel& model);
/// --profile: the same by layers, as a table on standard error or as "attention" in a JSON answer.
void log_reads(const engine::LanguageModel& model);
[[nodiscard]] nlohmann::ordered_json reads_as_json(const engine::LanguageModel& model);
[[nodiscard]] engine::LoadOptions load_options(const EngineArguments& arguments, const Context& context);

struct GenerationArguments : EngineArguments {
  std::string draft = "auto";
  int64_t max_new_tokens = 256, context = 0;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::vector<std::string> stop;
  uint64_t seed = 0;
  bool greedy = false, no_cache = false;
};

/// Before anything is read: where a device needs libtorch, goes on as deepseek-cli-full. Errors: a device that does not exist, a type of cache
/// or an attention that the device does not have.
[[nodiscard]] base::Status reach_device(const EngineArguments& arguments, const Context& context);

/// A model as generate, chat and eval run it.
struct LoadedModel {
  models::ModelText text;
  std::unique_ptr<engine::LanguageModel> engine;
  std::unique_ptr<engine::LanguageModel> draft;  ///< a smaller model that guesses, where one was asked for
  std::unique_ptr<engine::Drafter> drafter;      ///< nothing: no guesses
};
[[nodiscard]] base::Result<LoadedModel> load_for_inference(const std::string& model, const engine::LoadOptions& options, const Context& context);

void add_generation_options(CLI::App& app, GenerationArguments& arguments);
/// What was asked for, else the model's own defaults (greedy where it does not ask for sampling). Errors: defaults out of range.
[[nodiscard]] base::Result<engine::GenerateOptions> generation_options(const GenerationArguments& arguments, const models::ModelText& model);
/// load_for_inference() with what the arguments say of adapter, type, context, cache and guesses.
[[nodiscard]] base::Result<LoadedModel> load_for_generation(const GenerationArguments& arguments, const Context& context);
/// Checks the numbers before a model is loaded.
[[nodiscard]] base::Status check_generation(const GenerationArguments& arguments);
/// Prints an answer piece by piece, without the spaces before its first word where `trimmed`. On a terminal, control characters
/// other than line ends and tabs become "?": a model may not clear the screen. False: nothing can be printed any more.
[[nodiscard]] std::function<bool(std::string_view)> answer_printer(const Context& context, bool trimmed);

}  // namespace deepseek::cli
