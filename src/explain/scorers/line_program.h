// A program that is started once and answers line by line.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace deepseek::explain {

/// Runs `/bin/sh -c command` in a process group of its own; its standard error is this process's. Not for several threads at once.
class LineProgram {
 public:
  struct Limits {
    double timeout = 60;  ///< seconds, the start of the program included
    size_t most_bytes = size_t{1} << 20;
    std::function<bool()> stop_requested;
  };
  struct Failure {
    std::string message;
    bool may_pass = false;  ///< it died or was too slow: a new start may help
  };

  explicit LineProgram(std::string command) : command_(std::move(command)) {}
  LineProgram(const LineProgram&) = delete;
  LineProgram& operator=(const LineProgram&) = delete;
  ~LineProgram();

  /// Writes `line` (with its line end) and reads the next line that is not blank, both at once, so that neither side waits for the other. Starts the program where it
  /// does not run. A failure ends it with all processes of its group.
  [[nodiscard]] tl::expected<std::string, Failure> ask(std::string_view line, const Limits& limits);

 private:
  [[nodiscard]] std::string start();
  [[nodiscard]] tl::expected<std::string, Failure> exchange(std::string_view line, const Limits& limits);
  [[nodiscard]] bool take_line(std::string& line, size_t& searched);
  [[nodiscard]] Failure ended();
  int end(double patience);

  std::string command_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string read_;  // beyond the last answer
};

}  // namespace deepseek::explain
