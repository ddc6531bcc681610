// deepseek-cli-full: every command, with libtorch. deepseek-cli starts it.
#include <ATen/Parallel.h>

#include "cli/command.h"

int main(int argc, char** argv) {
  using namespace deepseek;
  return cli::run(argc, argv,
                  {.commands = {cli::pull_command(), cli::fine_tune_command(), cli::merge_command(), cli::compress_command(), cli::generate_command(),
                                cli::chat_command(), cli::eval_command(), cli::plan_command(), cli::explain_command(), cli::hardware_command()},
                   .set_threads = [](int threads) { at::set_num_threads(threads); },
                   .load_on_device = engine::load_plain});
}
