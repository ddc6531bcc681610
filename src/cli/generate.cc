// generate: the continuation of a prompt, or the answer to a question.
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/sampling_options.h"

namespace deepseek::cli {
namespace {

using base::Result;
using base::Status;

struct Arguments : GenerationArguments {
  std::optional<std::string> prompt;
  std::string prompt_file, system, chat_template = "auto";
  bool no_stream = false, profile = false;
};

Result<std::string> prompt_of(const Arguments& a) {
  if (a.prompt && !a.prompt_file.empty()) return base::refuse("give --prompt or --prompt_file, not both");
  std::string text;
  if (a.prompt) {
    text = *a.prompt;
  } else if (!a.prompt_file.empty()) {
    auto file = base::read_file(a.prompt_file, size_t{64} << 20);
    if (!file) return file;
    text = std::move(*file);
  } else {
    if (::isatty(STDIN_FILENO) != 0) base::log_info("type the prompt, Ctrl-D on a line of its own ends it");
    text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  if (!a.prompt && text.ends_with('\n')) text.pop_back();  // the editor's or echo's, not the text's
  if (text.empty()) return base::refuse("there is no prompt: give --prompt, --prompt_file, or text on standard input");
  return text;
}

Status generate(const Arguments& a, const Context& context) {
  if (auto sound = check_generation(a); !sound) return sound;
  if (auto reached = reach_device(a, context); !reached) return reached;
  if (a.chat_template != "auto" && a.chat_template != "on" && a.chat_template != "off") {
    return base::refuse("--chat_template is '{}'; use auto, on or off", a.chat_template);
  }
  auto prompt = prompt_of(a);
  if (!prompt) return base::pass(prompt);
  auto loaded = load_for_generation(a, context);
  if (!loaded) return base::pass(loaded);
  const models::ModelText* model = &loaded->text;
  // An adapter of this program was trained on questions; a bare model without a template continues the text as it is.
  const bool chat = a.chat_template == "on" || (a.chat_template == "auto" && (model->chat_template || !a.adapter.empty() || !a.system.empty()));
  Result<std::vector<int32_t>> ids = model->tokenizer.encode(*prompt);
  if (chat) {
    std::vector<formats::ChatMessage> messages;
    if (!a.system.empty()) messages.push_back({"system", a.system});
    messages.push_back({"user", *prompt});
    ids = model->encode_chat(messages, true);
  }
  if (!ids) return base::pass(ids);
  auto options = generation_options(a, *model);
  if (!options) return base::pass(options);
  const bool stream = !a.no_stream && !context.json;
  if (stream) options->on_text = answer_printer(context, chat);
  options->drafter = loaded->drafter.get();
  std::optional<base::Progress> reading;
  if (a.profile && !context.quiet) {
    reading.emplace("prompt", ids->size(), "token");
    options->on_prompt = [&](int64_t done, int64_t total) {
      reading->update(static_cast<uint64_t>(done), reads_in_short(*loaded->engine));
      if (done == total) reading->finish();
    };
  }
  auto out = engine::generate(*loaded->engine, model->tokenizer, *ids, *options);
  if (!out) return base::pass(out);
  std::string text = out->text;
  if (chat) text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  if (context.json) {
    nlohmann::ordered_json json{{"text", text},
                                {"finish_reason", engine::finish_reason_name(out->finish_reason)},
                                {"prompt_tokens", out->prompt_tokens},
                                {"new_tokens", out->ids.size()},
                                {"passes", out->passes},
                                {"prefill_seconds", out->prefill_seconds},
                                {"decode_seconds", out->decode_seconds}};
    if (a.profile) {
      json["keys_read"] = loaded->engine->share_of_keys_read();
      json["attention"] = reads_as_json(*loaded->engine);
    }
    context.print(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    if (!stream) answer_printer(context, false)(text);
    context.print("\n");
    if (a.profile) log_reads(*loaded->engine);
  }
  return {};
}

}  // namespace

Command generate_command() {
  return {{"generate", "continue a prompt or answer a question", "deepseek-cli generate --model gemma-3-270m --prompt \"A bond is\""},
          [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            add_generation_options(app, *a);
            app.add_option("--prompt", a->prompt, "the text; else --prompt_file, else standard input");
            app.add_option("--prompt_file", a->prompt_file, "a file with the text");
            app.add_option("--system", a->system, "a system message");
            app.add_option("--chat_template", a->chat_template, "auto, on or off")->capture_default_str();
            add_profile_option(app, a->profile);
            app.add_flag("--no_stream", a->no_stream, "print the text at the end");
            return std::function<Status()>([a, &context] { return generate(*a, context); });
          }};
}

}  // namespace deepseek::cli
