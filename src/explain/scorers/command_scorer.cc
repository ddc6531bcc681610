// Models that are programs: one line of JSON for each batch, one line back.
#include <memory>
#include <mutex>

#include "explain/scorers/kinds.h"
#include "explain/scorers/line_program.h"
#include "explain/scorers/wire.h"

namespace deepseek::explain {
namespace {

struct Program {
  explicit Program(const std::string& command) : lines(command) {}
  std::mutex one_at_a_time;
  LineProgram lines;
};

}  // namespace

base::Result<TableModel> open_command(const std::string& command, const ScorerOptions& options, const KnownColumns& known) {
  if (command.find_first_not_of(" \t\r\n") == std::string::npos) return base::refuse("it names no program");
  const auto program = std::make_shared<Program>(command);
  LineProgram::Limits limits{.timeout = options.timeout, .stop_requested = options.stop_requested};
  const int retries = options.retries;
  Transport transport = [program, limits, retries](const std::string& request, size_t most_bytes) mutable -> base::Result<std::string> {
    const std::lock_guard lock(program->one_at_a_time);
    limits.most_bytes = most_bytes;
    for (int attempt = 0;; ++attempt) {
      auto answer = program->lines.ask(request, limits);
      if (answer) return std::move(*answer);
      if (!answer.error().may_pass) return base::fail("{}", answer.error().message);
      if (attempt == retries) return base::fail("{}{}", answer.error().message, attempt == 0 ? "" : fmt::format(", {} times for the same batch", attempt + 1));
    }
  };
  return open_remote("command", std::move(transport), options, known);
}

}  // namespace deepseek::explain
