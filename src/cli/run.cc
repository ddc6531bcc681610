// From the command line to a command and back to an exit code: 0 done, 1 the work failed, 2 the request was wrong.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/command.h"
#include "hardware/cpu.h"

#ifndef DEEPSEEK_VERSION
#define DEEPSEEK_VERSION "0"
#endif

namespace deepseek::cli {
namespace {

using base::ErrorKind;
using base::Status;

constexpr int kDone = 0, kFailed = 1, kWrong = 2;
bool output_failed = false;
char** arguments_of_program = nullptr;

// "--lora-rank=4" and "--lora-rank" become "--lora_rank..."; values stay as they are.
std::vector<std::string> normalized(int argc, char** argv) {
  std::vector<std::string> out;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--") options = false;
    if (options && argument.starts_with("--")) {
      const size_t end = std::min(argument.find('='), argument.size());
      std::replace(argument.begin() + 2, argument.begin() + static_cast<long>(end), '-', '_');
    }
    out.push_back(std::move(argument));
  }
  return out;
}

std::string quoted_line(int argc, char** argv) {
  std::string line = "deepseek-cli";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool plain = !argument.empty() && argument.find_first_of(" \t\n\"'$\\*?") == std::string::npos;
    line += plain ? " " + argument : " '" + argument + "'";
  }
  return line;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options([](const CLI::Option*) { return true; })) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const auto* group : app.get_subcommands([](const CLI::App* inner) { return inner->get_name().empty(); })) {
    for (auto& name : option_names(*group)) names.push_back(std::move(name));
  }
  return names;
}

// CLI11 says what is wrong; a misspelt option or command gets the nearest right one too.
std::string explained(const CLI::App& app, const Program& program, const CLI::ParseError& error, const std::vector<std::string>& arguments) {
  const CLI::App* chosen = &app;
  for (const auto* command : app.get_subcommands()) chosen = command;
  const auto known = option_names(*chosen);
  // An option that nobody knows comes first: what else is missing may only follow from it.
  for (const auto& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (chosen == &app && !name.starts_with('-')) {
      std::vector<std::string> names;
      for (const auto& command : program.commands) names.emplace_back(command.name);
      if (std::find(names.begin(), names.end(), name) != names.end()) break;
      const std::string near = base::nearest(name, names);
      return fmt::format("there is no command '{}'{}; \"deepseek-cli --help\" lists them", name, near.empty() ? "" : ", did you mean '" + near + "'?");
    }
    if (!name.starts_with("--") || std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = base::nearest(name, known);
    return fmt::format("there is no option {}{}; \"deepseek-cli {} --help\" lists them", name, near.empty() ? "" : ", did you mean " + near + "?",
                       chosen == &app ? "" : chosen->get_name());
  }
  std::string text = error.what();
  if (const std::string start = "Could not convert: "; text.starts_with(start)) return text.substr(start.size()) + ": the option takes a number";
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && chosen != &app) {
    const auto stray = chosen->remaining();
    if (!stray.empty() && !stray.front().starts_with('-')) return fmt::format("'{}' belongs to no option; put quotes around a value that holds blanks", stray.front());
  }
  if (const size_t twice = text.find(": At Most 1 required"); twice != std::string::npos) return text.substr(0, twice) + " is given more than once";
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

int report(const Status& status) {
  if (status) return kDone;
  base::log_error(status.error().message);
  return status.error().kind == ErrorKind::kRequest ? kWrong : kFailed;
}

int guarded(const std::function<Status()>& work) {
  try {
    return report(work());
  } catch (const std::bad_alloc&) {
    base::log_error("there is not enough memory for this");
  } catch (const std::exception& error) {
    base::log_error(first_line(error.what()));
  }
  return kFailed;
}

Status set_threads(int threads, const Program& program) {
  if (threads < 0 || threads > 1024) return base::refuse("--threads is {}; use 1 to {}, or 0 for all cores", threads, hardware::cpu().threads());
  if (program.set_threads) program.set_threads(threads > 0 ? threads : hardware::cpu().compute_threads());
  return {};
}

// Unloading libtorch takes 70 ms, and giving a model's memory back some more. Not after fine-tune: MPI ends when the program does.
void leave([[maybe_unused]] int code) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  std::fflush(nullptr);
  ::_exit(code);
#endif
}

// The command that was asked for, where it is one of deepseek-cli-full.
bool belongs_to_full(const std::vector<std::string>& arguments, const Program& program) {
  const auto named = std::find_if(arguments.begin(), arguments.end(), [](const auto& argument) { return !argument.starts_with('-'); });
  return named != arguments.end() &&
         std::any_of(program.commands.begin(), program.commands.end(), [&](const auto& command) { return !command.setup && *named == command.name; });
}

struct Invocation {
  CLI::App app{"deepseek-cli: fine-tune, run and inspect language models on this machine"};
  Context context;
  std::function<Status()> chosen;
  bool openmp = false;
};

void build(Invocation& invocation, const Program& program) {
  auto& app = invocation.app;
  app.name("deepseek-cli");
  app.set_version_flag("--version", std::string("deepseek-cli ") + DEEPSEEK_VERSION);
  app.require_subcommand(1);
  app.footer("Each command has its own help: deepseek-cli COMMAND --help");
  for (const auto& command : program.commands) {
    auto* sub = app.add_subcommand(command.name, command.purpose);
    if (!command.setup) continue;
    sub->footer(std::string("Example:\n  ") + command.example);
    sub->add_flag("--json", invocation.context.json, "print one JSON object");
    sub->add_flag("--quiet", invocation.context.quiet, "only results and errors");
    sub->add_option("--threads", invocation.context.threads, "0: one for each core");
    auto work = command.setup(*sub, invocation.context);
    sub->callback([&invocation, work, openmp = command.openmp] {
      invocation.chosen = work;
      invocation.openmp = openmp;
    });
  }
}

}  // namespace

bool Context::print(const std::string& text) const {
  if (output_failed) return false;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
  output_failed = true;
  if (errno != EPIPE) base::log_error(std::string("cannot write the output: ") + std::strerror(errno));
  else errno = EPIPE;
  return false;
}

Status become_full() {
  std::error_code error;
  const auto self = base::fs::read_symlink("/proc/self/exe", error);
  const auto full = (self.parent_path().parent_path() / "libexec" / "deepseek-cli-full").string();
  std::fflush(nullptr);
  if (!error) ::execv(full.c_str(), arguments_of_program);
  return base::fail("cannot start {}, which does what needs libtorch: {}; install both programs", full, std::strerror(errno));
}

int run(int argc, char** argv, const Program& program) {
  base::install_signal_handlers();
  arguments_of_program = argv;
  auto arguments = normalized(argc, argv);
  if (belongs_to_full(arguments, program)) return report(become_full());
  Invocation invocation;
  build(invocation, program);
  invocation.context.command_line = quoted_line(argc, argv);
  invocation.context.load_on_device = program.load_on_device;
  auto reversed = arguments;
  std::reverse(reversed.begin(), reversed.end());
  try {
    invocation.app.parse(reversed);
  } catch (const CLI::Success& success) {  // help and version
    return invocation.app.exit(success);
  } catch (const CLI::ParseError& error) {
    base::log_error(explained(invocation.app, program, error, arguments));
    return kWrong;
  }
  if (invocation.openmp) base::restart_with_brief_spin(argv);
  if (const int code = report(set_threads(invocation.context.threads, program)); code != kDone) return code;
  int code = guarded(invocation.chosen);
  if (output_failed && errno != EPIPE) code = kFailed;
  if (!invocation.openmp) leave(code);
  return code;
}

}  // namespace deepseek::cli
