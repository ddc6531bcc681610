// What a command of deepseek-cli is. The table in commands.cc lists them all.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace deepseek::cli {

/// What every command shares.
struct Context {
  bool json = false, quiet = false;
  int threads = 0;
  std::string command_line;
  /// Writes to standard output; false where nobody reads any more. A full disk is an error that ends the program.
  bool print(const std::string& text) const;
};

/// A command adds its options and returns what to do when it is chosen.
struct Command {
  const char* name;
  const char* purpose;
  const char* example;
  std::function<std::function<base::Status()>(CLI::App&, const Context&)> setup;
  bool openmp = false;  ///< spends its time in libtorch's loops
};
[[nodiscard]] const std::vector<Command>& commands();

/// One for each file of this folder.
[[nodiscard]] Command chat_command();
[[nodiscard]] Command compress_command();
[[nodiscard]] Command eval_command();
[[nodiscard]] Command fine_tune_command();
[[nodiscard]] Command generate_command();
[[nodiscard]] Command hardware_command();
[[nodiscard]] Command merge_command();
[[nodiscard]] Command pull_command();

/// The whole program; returns its exit code.
int run(int argc, char** argv);

}  // namespace deepseek::cli
