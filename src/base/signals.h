// Ctrl-C ends work between its steps; a second one ends the program at once.
#pragma once

namespace deepseek::base {

/// SIGINT and SIGTERM set a flag, the second kills; SIGPIPE and SIGXFSZ are ignored, so that a closed pipe and a full quota are
/// failed writes.
void install_signal_handlers();
[[nodiscard]] bool interrupted();
/// For a chat: a Ctrl-C has been dealt with. A SIGTERM stays: it is meant for the program.
void clear_interruption();

}  // namespace deepseek::base
