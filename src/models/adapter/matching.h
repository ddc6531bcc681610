// Which modules an adapter's configuration names, by PEFT's rules.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/adapter/config.h"
#include "models/decoder/config.h"

namespace deepseek::models {

struct ModuleAdapter {
  int64_t rank = 0;
  double alpha = 0;
  double scale = 0;  ///< alpha / rank, rsLoRA alpha / sqrt(rank)
};

class ModuleMatcher {
 public:
  /// `modules`: the linear layers of the model. Errors: a pattern that does not compile, a target that the model does not have, a rank of 0
  /// or above a layer's size, an alpha that is no positive number, a dropout outside [0, 1).
  [[nodiscard]] static base::Result<ModuleMatcher> create(const AdapterConfig& config, const std::vector<LinearModule>& modules);
  [[nodiscard]] bool targets(const std::string& name) const;
  [[nodiscard]] ModuleAdapter adapter_of(const std::string& name) const;

 private:
  struct Rules;
  std::shared_ptr<const Rules> rules_;
};

}  // namespace deepseek::models
