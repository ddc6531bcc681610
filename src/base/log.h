// Lines for people on standard error. They never tear a progress bar.
#pragma once

#include <string>

namespace deepseek::base {

void log_info(const std::string& line);
void log_warn(const std::string& line);
void log_error(const std::string& line);

/// What a progress bar shows last; logs clear it, write, and draw it anew. "" where none is shown.
void set_status_line(const std::string& line);

}  // namespace deepseek::base
