// The fixed parts of the page: style sheet and the script that turns the drawn curves into interactive ones.
#pragma once

namespace deepseek::train {

extern const char* const kPageStyle;
extern const char* const kPageScript;

}  // namespace deepseek::train
