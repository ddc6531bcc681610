#include "train/learning_rate.h"

#include <algorithm>
#include <cmath>

namespace deepseek::train {

const char* name_of(ScheduleKind kind) {
  return kind == ScheduleKind::kConstant ? "constant" : kind == ScheduleKind::kLinear ? "linear" : "cosine";
}

base::Result<ScheduleKind> schedule_kind(const std::string& name) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    if (name == name_of(kind)) return kind;
  }
  return base::refuse("learning rate schedule '{}' is unknown; use cosine, linear or constant", name);
}

double Schedule::at(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup));
  const double done = static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(1, total - warmup));
  switch (kind) {
    case ScheduleKind::kConstant: return peak;
    case ScheduleKind::kLinear: return peak * std::max(0.0, 1.0 - done);
    case ScheduleKind::kCosine: return peak * std::max(0.0, 0.5 * (1.0 + std::cos(M_PI * done)));
  }
  return peak;
}

}  // namespace deepseek::train
