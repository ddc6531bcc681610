// Learning rate over a run: linear warm-up, then constant, linear to zero or half a cosine to zero.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace deepseek::train {

enum class ScheduleKind { kConstant, kLinear, kCosine };
/// The name that the command line and a checkpoint use.
[[nodiscard]] const char* name_of(ScheduleKind kind);
[[nodiscard]] base::Result<ScheduleKind> schedule_kind(const std::string& name);

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 2e-4;
  int64_t warmup = 0;  ///< steps from 0 to the peak
  int64_t total = 1;

  /// Rate of update `step`, counted from 0. The same as Transformers' schedules of these names.
  [[nodiscard]] double at(int64_t step) const;
};

}  // namespace deepseek::train
