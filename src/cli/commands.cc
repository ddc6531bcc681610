// All commands, in the order of a model's life.
#include "cli/command.h"

namespace deepseek::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands{pull_command(), fine_tune_command(), merge_command(), compress_command(), generate_command(), chat_command(), eval_command(), hardware_command()};
  return kCommands;
}

}  // namespace deepseek::cli
