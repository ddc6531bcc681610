// deepseek-cli: runs models without libtorch.
#include "cli/command.h"

int main(int argc, char** argv) {
  using namespace deepseek::cli;
  return run(argc, argv,
             {.commands = {pull_command(), {kFineTune}, {kMerge}, {kCompress}, generate_command(), chat_command(), eval_command(), plan_command(), {kExplain}, hardware_command()}});
}
