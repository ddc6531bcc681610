// chat: a conversation that remembers.
#include <poll.h>
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/signals.h"
#include "cli/command.h"
#include "cli/sampling_options.h"

namespace deepseek::cli {
namespace {

using base::Status;

struct Arguments : GenerationArguments {
  std::string system;
};

constexpr const char* kHelp =
    "/reset forgets, /system TEXT sets the system message, /save FILE writes the conversation as JSON, /quit or Ctrl-D ends; Ctrl-C stops an answer";

class Conversation {
 public:
  Conversation(const Arguments& a, const Context& context, LoadedModel model)
      : arguments_(a), context_(context), loaded_(std::move(model)), model_(loaded_.text), chat_(*loaded_.engine, model_.tokenizer), terminal_(::isatty(STDIN_FILENO) != 0) {
    if (!a.system.empty()) messages_.push_back({"system", a.system});
  }

  Status run() {
    if (terminal_ && !context_.quiet) base::log_info(std::string("type a question; ") + kHelp);
    for (std::string line;;) {
      if (terminal_) context_.print("> ");
      if (!awaited() || !std::getline(std::cin, line)) {
        if (!resumed()) break;  // Ctrl-C at the prompt: a fresh line
        std::cin.clear();
        ::clearerr(stdin);
        context_.print("\n");
        continue;
      }
      if (line == "/quit" || line == "/exit") break;
      if (line.starts_with('/')) {
        command(line);
      } else if (!line.empty()) {
        if (auto done = answer(line); !done) return done;
      }
      if (base::interrupted()) break;
    }
    if (terminal_) context_.print("\n");
    return {};
  }

 private:
  // Waits for a line on the terminal; false after a signal. A read alone would miss one that comes just before it. A terminal hands out
  // one line at a time, so none waits unseen in the buffer of the stream.
  bool awaited() const {
    constexpr int kLook = 100;  // ms
    for (pollfd input{STDIN_FILENO, POLLIN, 0}; terminal_ && !base::interrupted();) {
      if (::poll(&input, 1, kLook) > 0) return true;
    }
    return !terminal_;
  }

  // After Ctrl-C on a terminal the conversation goes on; true where that was the case.
  bool resumed() const {
    if (!terminal_ || !base::interrupted()) return false;
    base::clear_interruption();
    return !base::interrupted();
  }

  void command(const std::string& line) {
    const size_t blank = line.find(' ');
    const std::string name = line.substr(0, blank), rest = blank == std::string::npos ? "" : line.substr(blank + 1);
    if (name == "/reset") {
      const bool keep = !messages_.empty() && messages_[0].role == "system";
      messages_.resize(keep ? 1 : 0);
      chat_.reset();
    } else if (name == "/system") {
      messages_.clear();
      if (!rest.empty()) messages_.push_back({"system", rest});
      chat_.reset();
    } else if (name == "/save" && !rest.empty()) {
      save(rest);
    } else {
      base::log_info(kHelp);
    }
  }

  void save(const std::string& file) const {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const auto& message : messages_) json.push_back({{"role", message.role}, {"content", message.content}});
    const auto text = nlohmann::ordered_json{{"messages", json}}.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (auto done = base::write_file_atomically(file, text); !done) base::log_error(done.error().message);
  }

  Status answer(const std::string& question) {
    messages_.push_back({"user", question});
    auto out = reply();
    resumed();
    if (!out) {
      messages_.pop_back();
      if (!terminal_) return base::pass(out);
      base::log_error(out.error().message + "; /reset begins anew");
      return {};
    }
    context_.print("\n");
    out->text.erase(0, std::min(out->text.find_first_not_of(' '), out->text.size()));
    messages_.push_back({"assistant", out->text});
    return {};
  }

  base::Result<engine::Generation> reply() {
    auto ids = model_.encode_chat(messages_, true);
    if (!ids) return base::pass(ids);
    auto options = generation_options(arguments_, model_);
    if (!options) return base::pass(options);
    options->sampling.seed += messages_.size();
    if (!model_.chat_template) options->stop.push_back("\nQuestion:");
    options->on_text = answer_printer(context_, true);
    options->drafter = loaded_.drafter.get();
    return chat_.reply(*ids, *options);
  }

  const Arguments& arguments_;
  const Context& context_;
  LoadedModel loaded_;
  const models::ModelText& model_;
  engine::Chat chat_;
  std::vector<formats::ChatMessage> messages_;
  bool terminal_;
};

Status chat(const Arguments& a, const Context& context) {
  if (context.json) return base::refuse("chat has no --json: /save FILE writes the conversation, generate --json answers one question");
  if (auto sound = check_generation(a); !sound) return sound;
  if (auto reached = reach_device(a, context); !reached) return reached;
  auto model = load_for_generation(a, context);
  if (!model) return base::pass(model);
  return Conversation(a, context, std::move(*model)).run();
}

}  // namespace

Command chat_command() {
  return {{"chat", "talk with a model", "deepseek-cli chat --model gemma-3-270m --adapter my-adapter"}, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            add_generation_options(app, *a);
            app.add_option("--system", a->system, "a system message");
            return std::function<Status()>([a, &context] { return chat(*a, context); });
          }};
}

}  // namespace deepseek::cli
