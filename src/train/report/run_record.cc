#include "train/report/run_record.h"

#include <cmath>
#include <limits>

#include "base/json.h"

namespace deepseek::train {
namespace {

constexpr size_t kMaxStages = 1000, kMaxSamples = 200;

// A run that was resumed repeats the steps after its checkpoint: those written before do not count.
void forget_after(RunRecord& run, int64_t step) {
  run.steps.erase(run.steps.upper_bound(step), run.steps.end());
  run.evaluations.erase(run.evaluations.upper_bound(step), run.evaluations.end());
  std::erase_if(run.stages, [&](const Json& stage) { return whole(stage, "step") > step; });
  run.end = Json::object();
}

void add(RunRecord& run, Json line) {
  const std::string type = text(line, "type");
  const int64_t step = whole(line, "step");
  if (type == "start") {
    run.start = std::move(line);
  } else if (type == "end") {
    run.end = std::move(line);
  } else if (type == "stage" && run.stages.size() < kMaxStages) {
    run.stages.push_back(std::move(line));
  } else if (type == "sample" && run.samples.size() < kMaxSamples) {
    run.samples.push_back(std::move(line));
  } else if (type == "step" && step >= 0) {
    run.steps[step] = std::move(line);
  } else if (type == "evaluation" && step >= 0) {
    run.evaluations[step] = std::move(line);
  } else if (type == "resume" && step >= 0) {
    forget_after(run, step);
    run.resumes.push_back(step);
  }
}

}  // namespace

base::Result<RunRecord> parse_run(std::string_view jsonl, const std::string& name) {
  RunRecord run;
  size_t used = 0;
  while (!jsonl.empty()) {
    const size_t end = jsonl.find('\n');
    const std::string_view line = jsonl.substr(0, end);
    jsonl.remove_prefix(end == std::string_view::npos ? jsonl.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto json = base::parse_json(line, 16);
    if (!json || !json->is_object() || text(*json, "type").empty()) {
      ++run.unreadable;
      continue;
    }
    ++used;
    add(run, std::move(*json));
  }
  if (used == 0) return base::fail("{}: no line of it is a training metric; is it the metrics.jsonl of a run?", name);
  return run;
}

double number(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_number()) return std::numeric_limits<double>::quiet_NaN();
  const double value = found->get<double>();
  return std::isfinite(value) ? value : std::numeric_limits<double>::quiet_NaN();
}

std::string text(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int64_t whole(const Json& object, const char* field) {
  const double value = number(object, field);
  return std::abs(value) <= 0x1p53 ? static_cast<int64_t>(value) : -1;
}

}  // namespace deepseek::train
