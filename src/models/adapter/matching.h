// Which modules an adapter's configuration names, by PEFT's rules.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/adapter/adapter.h"

namespace deepseek::models {

struct ModuleAdapter {
  int64_t rank = 0;
  double alpha = 0;
};

/// Refuses a rank that is 0 or above the layer's size, and an alpha that is no positive number.
[[nodiscard]] base::Status check_adapter_size(const std::string& name, int64_t out, int64_t in, const ModuleAdapter& adapter);

class ModuleMatcher {
 public:
  /// Errors: a pattern that does not compile, a target that this model does not have (`names` are its linear layers).
  [[nodiscard]] static base::Result<ModuleMatcher> create(const AdapterConfig& config, const std::vector<std::string>& names);
  [[nodiscard]] bool targets(const std::string& name) const;
  [[nodiscard]] ModuleAdapter adapter_of(const std::string& name) const;

 private:
  struct Rules;
  std::shared_ptr<const Rules> rules_;
};

}  // namespace deepseek::models
