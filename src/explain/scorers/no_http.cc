// Servers in a build without libcurl.
#include "explain/scorers/kinds.h"

namespace deepseek::explain {

base::Result<TableModel> open_http(const std::string&, const ScorerOptions&, const KnownColumns&) { return base::fail("this build asks no servers: it was made without libcurl"); }

}  // namespace deepseek::explain
