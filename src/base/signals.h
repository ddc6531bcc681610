// Ctrl-C ends work between its steps; a second one ends the program at once.
#pragma once

namespace deepseek::base {

/// SIGINT and SIGTERM set a flag, the second kills; SIGPIPE is ignored, so that a closed pipe is a failed write.
void install_signal_handlers();
[[nodiscard]] bool interrupted();
/// For a chat: the interruption has been dealt with.
void clear_interruption();

}  // namespace deepseek::base
