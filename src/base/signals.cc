#include "base/signals.h"

#include <csignal>

namespace deepseek::base {
namespace {

volatile std::sig_atomic_t flag = 0;

void note(int signal) {
  if (flag != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  flag = signal;
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action{};
  action.sa_handler = note;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: a read that waits returns
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return flag != 0; }
void clear_interruption() {
  if (flag == SIGINT) flag = 0;
}

}  // namespace deepseek::base
