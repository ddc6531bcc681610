#include "cli/sampling_options.h"

#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/signals.h"
#include "engine/weights.h"

namespace deepseek::cli {

void add_engine_options(CLI::App& app, EngineArguments& a) {
  app.add_option("--model", a.model, "name, directory or .gguf")->required();
  app.add_option("--adapter", a.adapter, "a PEFT adapter's directory");
  app.add_option("--dtype", a.dtype, "auto (as the file has its weights), f32 or bf16")->capture_default_str();
  app.add_option("--device", a.device, "cpu, or cuda: by libtorch's operators")->capture_default_str();
  app.add_option("--kv_cache", a.kv_cache, "type of keys and values: bf16, or int8 in half the memory")->capture_default_str();
  app.add_option("--attention", a.attention, "auto (as the plan says, else the model's own), dense, or dsa: layers without a sliding window read chosen keys only; dsa:top_p=0.95 (share of attention), dsa:ratio=0.4 "
                 "(share of keys) or dsa:top_k=2048 (keys)")->capture_default_str();
  app.add_option("--plan", a.plan, "a plan.json for --attention auto [the one beside the model]");
}

void add_profile_option(CLI::App& app, bool& profile) {
  app.add_flag("--profile", profile, "show what each layer reads of its keys, and how much of the attention these hold");
}

std::string reads_in_short(const engine::LanguageModel& model) {
  const auto layers = model.attention_reads();
  if (layers.empty()) return "";
  double mass = 0;
  for (const auto& layer : layers) mass += layer.mass_kept / static_cast<double>(layers.size());
  return fmt::format("keys read {:.0f}%, with {:.3f} of the attention", 100 * model.share_of_keys_read(), mass);
}

void log_reads(const engine::LanguageModel& model) {
  const auto layers = model.attention_reads();
  if (layers.empty()) {
    base::log_info(fmt::format("keys read: {:.1f}%; how much of the attention they hold is known to the engine alone (--device cpu, no indexers, no DeepSeek model)",
                               100 * model.share_of_keys_read()));
    return;
  }
  base::log_info("layers without a sliding window, estimated where keys were chosen:");
  base::log_info(fmt::format("{:<7} {:>9} {:>18}", "layer", "keys read", "attention kept"));
  for (const auto& layer : layers) base::log_info(fmt::format("{:<7} {:>8.1f}% {:>18.4f}", layer.layer, 100 * layer.keys_read, layer.mass_kept));
}

nlohmann::ordered_json reads_as_json(const engine::LanguageModel& model) {
  auto out = nlohmann::ordered_json::array();
  for (const auto& layer : model.attention_reads()) out.push_back({{"layer", layer.layer}, {"keys_read", layer.keys_read}, {"mass_kept", layer.mass_kept}});
  return out;
}

engine::LoadOptions load_options(const EngineArguments& a, const Context& context) {
  return {.dtype = a.dtype, .device = a.device, .adapter = a.adapter, .threads = context.threads, .kv_cache = a.kv_cache, .attention = a.attention, .plan = a.plan};
}

base::Status reach_device(const EngineArguments& a, const Context& context) {
  if (a.device == "cpu") return {};
  if (a.device != "cuda") return base::refuse("--device is '{}'; use cpu or cuda", a.device);
  if (a.kv_cache != "bf16") return base::refuse("--kv_cache {} is for --device cpu", a.kv_cache);
  return context.load_on_device ? base::Status() : become_full();
}

base::Result<LoadedModel> load_for_inference(const std::string& model, const engine::LoadOptions& options, const Context& context) {
  if (auto known = engine::pack_as(options.dtype); !known) return base::pass(known);
  auto text = models::open_model(model);
  if (!text) return base::pass(text);
  // libtorch alone runs these.
  const bool plain = text->config.family == models::DecoderFamily::kDeepseek || models::holds_indexer(options.adapter);
  if (plain && !context.load_on_device) {
    auto failed = become_full();
    return base::pass(failed);
  }
  auto engine = plain || options.device != "cpu" ? context.load_on_device(*text, options) : engine::load_fused(*text, options);
  if (!engine) return base::pass(engine);
  text->gguf.reset();
  return LoadedModel{std::move(*text), std::move(*engine), nullptr, nullptr};
}

base::Result<LoadedModel> load_for_generation(const GenerationArguments& a, const Context& context) {
  engine::LoadOptions options = load_options(a, context);
  options.context = a.context;
  options.cache = !a.no_cache;
  auto loaded = load_for_inference(a.model, options, context);
  if (!loaded || a.draft == "off") return loaded;
  if (a.draft == "auto") {
    loaded->drafter = engine::ngram_drafter();
    return loaded;
  }
  options.dtype = "auto";
  options.adapter.clear();
  options.plan.clear();
  options.context = 0;
  auto draft = load_for_inference(a.draft, options, context);
  if (!draft) return base::within("--draft", draft.error());
  const int64_t mine = loaded->text.config.vocab_size, theirs = draft->text.config.vocab_size;
  if (mine != theirs) {
    return base::refuse("--draft {} has {} tokens and the model {}: a draft needs the same vocabulary", a.draft, theirs, mine);
  }
  loaded->draft = std::move(draft->engine);
  loaded->drafter = engine::model_drafter(*loaded->draft);
  return loaded;
}

void add_generation_options(CLI::App& app, GenerationArguments& a) {
  add_engine_options(app, a);
  app.add_option("--draft", a.draft, "guesses that the model checks several at a time: auto (from the text so far), off, or a smaller model")
      ->capture_default_str();
  app.add_flag("--no_cache", a.no_cache, "neither read nor keep the packed weights beside the model");
  app.add_option("--max_new_tokens", a.max_new_tokens, "length of an answer")->capture_default_str();
  app.add_option("--context", a.context, "most tokens, prompt included; 0: the model's")->capture_default_str();
  auto* sampling = app.add_option_group("Sampling", "the model's own settings where not given");
  sampling->add_flag("--greedy", a.greedy, "always the most probable token");
  sampling->add_option("--temperature", a.temperature, "0: greedy");
  sampling->add_option("--top_k", a.top_k, "0: all");
  sampling->add_option("--top_p", a.top_p, "share of probability kept");
  sampling->add_option("--min_p", a.min_p, "share of the best token's probability that a token needs");
  sampling->add_option("--repetition_penalty", a.repetition_penalty, "1: none");
  sampling->add_option("--presence_penalty", a.presence_penalty, "0: none");
  sampling->add_option("--frequency_penalty", a.frequency_penalty, "0: none");
  sampling->add_option("--stop", a.stop, "text that ends an answer; may be given several times")->allow_extra_args(false);
  sampling->add_option("--seed", a.seed, "the same seed gives the same text")->capture_default_str()->check(CLI::NonNegativeNumber);
}

base::Result<engine::GenerateOptions> generation_options(const GenerationArguments& a, const models::ModelText& model) {
  engine::GenerateOptions out;
  const auto& defaults = model.generation;
  out.max_new_tokens = a.max_new_tokens;
  out.context_limit = a.context;
  out.stop = a.stop;
  out.eos_ids = defaults.eos_ids;
  auto& s = out.sampling;
  s.seed = a.seed;
  // Where nothing is said, a model that does not ask for sampling answers greedily.
  const bool asked = a.temperature || a.top_k || a.top_p || a.min_p;
  s.temperature = a.greedy ? 0.0 : a.temperature.value_or(defaults.do_sample || asked ? defaults.temperature : 0.0);
  s.top_k = a.top_k.value_or(defaults.top_k);
  s.top_p = a.top_p.value_or(defaults.top_p);
  s.min_p = a.min_p.value_or(defaults.min_p);
  s.repetition_penalty = a.repetition_penalty.value_or(defaults.repetition_penalty);
  s.presence_penalty = a.presence_penalty.value_or(0.0);
  s.frequency_penalty = a.frequency_penalty.value_or(0.0);
  out.stop_requested = [] { return base::interrupted(); };
  // What the user gave was checked before: only the model's own values can be wrong here.
  if (auto sound = engine::validate(out); !sound) {
    return base::fail("{}: generation_config.json asks for the impossible: {}; give the option yourself", model.path.string(), sound.error().message);
  }
  return out;
}

base::Status check_generation(const GenerationArguments& a) {
  engine::GenerateOptions options;
  options.max_new_tokens = a.max_new_tokens;
  options.context_limit = a.context;
  options.stop = a.stop;
  options.sampling = {.temperature = a.temperature.value_or(1), .top_k = a.top_k.value_or(0), .top_p = a.top_p.value_or(1), .min_p = a.min_p.value_or(0),
                      .repetition_penalty = a.repetition_penalty.value_or(1), .presence_penalty = a.presence_penalty.value_or(0),
                      .frequency_penalty = a.frequency_penalty.value_or(0)};
  return engine::validate(options);
}

std::function<bool(std::string_view)> answer_printer(const Context& context, bool trimmed) {
  return [&context, trimmed, begun = false, terminal = ::isatty(STDOUT_FILENO) == 1](std::string_view piece) mutable {
    std::string text(piece);
    if (trimmed && !begun) text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
    begun = begun || !text.empty();
    const auto harmful = [](unsigned char c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F; };
    if (terminal) std::replace_if(text.begin(), text.end(), harmful, '?');
    return context.print(text);
  };
}

}  // namespace deepseek::cli
