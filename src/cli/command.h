// What a command of deepseek-cli is.
//
// Two programs share this folder. deepseek-cli (main.cc), which people start, links no libtorch, whose loading takes 0.2 s: it runs models and
// hands what needs libtorch to deepseek-cli-full (main_full.cc) with the same arguments.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/language_model.h"

namespace deepseek::cli {

using DeviceLoader = std::function<base::Result<std::unique_ptr<engine::LanguageModel>>(const models::ModelText&, const engine::LoadOptions&)>;

/// What every command shares.
struct Context {
  bool json = false, quiet = false;
  int threads = 0;
  std::string command_line;
  DeviceLoader load_on_device;
  /// Writes to standard output; false where nobody reads any more. A full disk is an error that ends the program.
  bool print(const std::string& text) const;
};

/// What a command is called and does, for the list of commands.
struct CommandText {
  const char *name, *purpose, *example;
};
constexpr CommandText kFineTune{"fine-tune", "train a LoRA adapter on a dataset, with a curriculum",
                                "deepseek-cli fine-tune --model deepseek-7b --dataset finance_qa.json --lora_rank 16 --curriculum_steps 5"};
constexpr CommandText kMerge{"merge", "write a model with its adapter merged in",
                             "deepseek-cli merge --model gemma-3-270m --adapter my-adapter --output merged"};
constexpr CommandText kCompress{"compress", "write a model in fewer bits",
                                "deepseek-cli compress --model gemma-3-270m --format int4 --output gemma-int4"};

constexpr CommandText kExplain{"explain", "say why a model decided as it did, feature by feature", "deepseek-cli explain --model income.ubj --data adult.csv --target income --sample 7 --html why.html"};

/// A command adds its options and returns what to do when it is chosen; without `setup` it is one of deepseek-cli-full.
struct Command : CommandText {
  std::function<std::function<base::Status()>(CLI::App&, const Context&)> setup;
  bool openmp = false;  ///< spends its time in libtorch's loops
};

/// One for each file of this folder.
[[nodiscard]] Command chat_command();
[[nodiscard]] Command compress_command();
[[nodiscard]] Command eval_command();
[[nodiscard]] Command explain_command();
[[nodiscard]] Command fine_tune_command();
[[nodiscard]] Command generate_command();
[[nodiscard]] Command hardware_command();
[[nodiscard]] Command merge_command();
[[nodiscard]] Command plan_command();
[[nodiscard]] Command pull_command();

/// A program: its commands in the order of a model's life, and what only a program with libtorch can do.
struct Program {
  std::vector<Command> commands;
  std::function<void(int)> set_threads;  ///< of libtorch
  DeviceLoader load_on_device;           ///< a model on a device other than the CPU; without it deepseek-cli-full is started
};

/// All of it; returns the exit code.
int run(int argc, char** argv, const Program& program);

/// Goes on as deepseek-cli-full with the arguments that run() was given; returns only where that fails.
[[nodiscard]] base::Status become_full();

}  // namespace deepseek::cli
