#include "explain/scorers/line_program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/text.h"
#include "explain/scorers/sigpipe.h"

namespace deepseek::explain {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPiece = size_t{1} << 16;  // what a pipe holds
constexpr double kPatience = 1;             // seconds for a program to end by itself
constexpr int kStopStep = 50;               // milliseconds between two looks at stop_requested

double seconds_until(Clock::time_point end) { return std::chrono::duration<double>(end - Clock::now()).count(); }
Clock::time_point in_seconds(double seconds) { return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(seconds, 1e8))); }

void close_fd(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// Starts the shell with pipes for its standard input and output; an errno, or 0.
int spawn(const std::string& command, int input, int output, pid_t& pid) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t how;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&how);
  posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  sigset_t usual, none;
  sigemptyset(&none);
  sigemptyset(&usual);
  for (const int signal : {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM}) sigaddset(&usual, signal);
  posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setpgroup(&how, 0);
  posix_spawnattr_setsigdefault(&how, &usual);
  posix_spawnattr_setsigmask(&how, &none);
  std::string shell = "sh", flag = "-c", text = command;
  char* arguments[] = {shell.data(), flag.data(), text.data(), nullptr};
  const int error = ::posix_spawn(&pid, "/bin/sh", &files, &how, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&how);
  return error;
}

}  // namespace

LineProgram::~LineProgram() { end(kPatience); }

std::string LineProgram::start() {
  int input[2] = {-1, -1}, output[2] = {-1, -1};
  int error = 0;
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) error = errno;
  if (error == 0) error = spawn(command_, input[0], output[1], pid_);
  close_fd(input[0]);
  close_fd(output[1]);
  to_ = input[1];
  from_ = output[0];
  if (error != 0) {
    pid_ = -1;
    close_fd(to_);
    close_fd(from_);
    return fmt::format("it cannot be started: {}", std::strerror(error));
  }
  for (const int fd : {to_, from_}) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  read_.clear();
  return "";
}

// Ends the program and its group; `patience` are the seconds that it has to do so by itself once its input has ended. Returns its wait status.
int LineProgram::end(double patience) {
  close_fd(to_);
  if (pid_ < 0) return 0;
  siginfo_t info{};
  // The process stays unreaped until its group is killed, so that its number means nobody else.
  for (const auto last = in_seconds(patience); patience > 0; std::this_thread::sleep_for(std::chrono::milliseconds(2))) {
    info.si_pid = 0;
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid_ || seconds_until(last) <= 0) break;
  }
  ::kill(-pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  close_fd(from_);
  return status;
}

LineProgram::Failure LineProgram::ended() {
  const int status = end(kPatience);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return {"it cannot be started: the shell found no such program", false};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 126) return {"it cannot be started: the shell may not run it", false};
  if (WIFEXITED(status)) return {fmt::format("it ended with exit code {} before it answered", WEXITSTATUS(status)), true};
  const int signal = WTERMSIG(status);
  if (signal == SIGKILL) return {"it closed its output or was killed before it answered", true};
  return {fmt::format("it died by signal {} ({}) before it answered", signal, ::strsignal(signal)), true};
}

bool LineProgram::take_line(std::string& line, size_t& searched) {
  for (size_t end = 0; (end = read_.find('\n', searched)) != std::string::npos; searched = 0) {
    line = read_.substr(0, end);
    read_.erase(0, end + 1);
    if (!is_blank(line)) return true;
  }
  searched = read_.size();
  return false;
}

tl::expected<std::string, LineProgram::Failure> LineProgram::exchange(std::string_view line, const Limits& limits) {
  const auto last = in_seconds(limits.timeout);
  std::string answer(kPiece, '\0');
  for (size_t sent = 0, searched = 0;;) {
    if (limits.stop_requested && limits.stop_requested()) return tl::make_unexpected(Failure{"interrupted", false});
    const double left = seconds_until(last);
    if (left <= 0) return tl::make_unexpected(Failure{fmt::format("it gave no answer within {:.3g} s", limits.timeout), true});
    pollfd waiting[] = {{from_, POLLIN, 0}, {sent < line.size() ? to_ : -1, POLLOUT, 0}};
    const int step = static_cast<int>(std::min(left * 1000 + 1, limits.stop_requested ? static_cast<double>(kStopStep) : 1e6));
    if (::poll(waiting, 2, step) < 0 && errno != EINTR) return tl::make_unexpected(Failure{fmt::format("waiting for it failed: {}", std::strerror(errno)), false});
    if (waiting[0].revents != 0) {
      answer.resize(kPiece);
      const ssize_t count = ::read(from_, answer.data(), answer.size());
      if (count == 0) return tl::make_unexpected(ended());
      if (count > 0) read_.append(answer, 0, static_cast<size_t>(count));
      if (take_line(answer, searched)) {
        if (sent < line.size()) return tl::make_unexpected(Failure{fmt::format("it wrote a line before it had read the batch: {}", base::to_valid_utf8(answer.substr(0, 120))), false});
        return answer;
      }
      if (read_.size() > limits.most_bytes) return tl::make_unexpected(Failure{fmt::format("it wrote more than {} without a line end", base::human_bytes(limits.most_bytes)), false});
    }
    if (waiting[1].revents != 0) {
      const SigpipeGuard guard;
      const ssize_t count = ::write(to_, line.data() + sent, std::min(kPiece, line.size() - sent));
      if (count > 0) sent += static_cast<size_t>(count);
      else if (count < 0 && errno == EPIPE) return tl::make_unexpected(ended());
    }
  }
}

tl::expected<std::string, LineProgram::Failure> LineProgram::ask(std::string_view line, const Limits& limits) {
  if (pid_ < 0) {
    if (std::string why = start(); !why.empty()) return tl::make_unexpected(Failure{std::move(why), false});
  }
  std::string early(kPiece, '\0');
  if (const ssize_t count = ::read(from_, early.data(), early.size()); count > 0) read_.append(early, 0, static_cast<size_t>(count));
  if (!is_blank(read_)) {
    Failure extra{fmt::format("it wrote more than one line for a batch: {}", base::to_valid_utf8(read_.substr(0, 120))), false};
    end(0);
    return tl::make_unexpected(std::move(extra));
  }
  auto answer = exchange(line, limits);
  if (!answer) end(0);
  return answer;
}

}  // namespace deepseek::explain
