// pull_model() of a build without libcurl and OpenSSL.
#include "models/hub/hub.h"

namespace deepseek::models {

base::Result<base::fs::path> pull_model(const std::string& name, const PullOptions&) {
  return base::fail("this build cannot download {}: it was made without libcurl or OpenSSL", name);
}

}  // namespace deepseek::models
