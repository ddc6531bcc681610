#include "train/report/report.h"

#include <cmath>

#include "base/text.h"
#include "base/web_page.h"
#include "train/report/charts.h"
#include "train/report/page.h"
#include "train/report/run_record.h"
#include "train/report/vega.h"

namespace deepseek::train {
namespace {

constexpr size_t kMaxMetrics = size_t{1} << 29, kMaxOptions = 300, kMaxCell = 4000;

// What one table cell shows of any JSON value.
std::string cell(const Json& value) {
  std::string shown = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > kMaxCell) shown = base::to_valid_utf8(shown.substr(0, kMaxCell)) + " …";
  return base::escape_html(shown);
}

std::string count(const Json& object, const char* field) {
  const int64_t value = whole(object, field);
  return value < 0 ? "–" : base::with_commas(static_cast<uint64_t>(value));
}

std::string tile(const std::string& label, const std::string& value, bool good = false) {
  return fmt::format("<div class=\"tile{}\"><b>{}</b><span>{}</span></div>", good ? " good" : "", base::escape_html(value),
                     base::escape_html(label));
}

std::string title_of(const RunRecord& run) {
  const std::string model = text(run.start, "model");
  // Of a path the last part is enough; the whole one stands in the command.
  const std::string name = base::fs::path(model).filename().string();
  return model.empty() ? "Training run" : (name.empty() ? model : name) + ": training run";
}

std::string header(const RunRecord& run) {
  std::string sub;
  for (const char* field : {"dataset", "dataset_format", "time", "cpu", "dtype"}) {
    const std::string value = text(run.start, field);
    if (!value.empty()) sub += (sub.empty() ? "" : " · ") + value;
  }
  const int64_t threads = whole(run.start, "threads");
  if (threads > 0) sub += " · " + count(run.start, "threads") + (threads == 1 ? " thread" : " threads");
  return fmt::format("<h1>{}</h1><p class=\"sub\">{}</p>", base::escape_html(title_of(run)), base::escape_html(sub));
}

struct Losses {
  double base = NAN, best = NAN;
  int64_t best_step = -1;
};

// From the end line, else from the evaluations: a run that still goes on has no end line.
Losses losses_of(const RunRecord& run) {
  Losses losses{number(run.end, "base_loss"), number(run.end, "best_loss"), whole(run.end, "best_step")};
  for (const auto& [step, line] : run.evaluations) {
    const double loss = number(line, "loss");
    if (step == 0 && std::isnan(losses.base)) losses.base = loss;
    if (run.end.empty() && step > 0 && !std::isnan(loss) && !(losses.best <= loss)) {
      losses.best = loss;
      losses.best_step = step;
    }
  }
  return losses;
}

std::string loss_text(double loss) { return std::abs(loss) < 1e4 ? fmt::format("{:.4f}", loss) : short_number(loss); }

std::string summary(const RunRecord& run) {
  const Losses losses = losses_of(run);
  const double fall = (1 - losses.best / losses.base) * 100;
  std::string html = "<div class=\"tiles\">";
  html += tile("held-out loss of the base model", loss_text(losses.base));
  html += tile(losses.best_step < 0 ? "best held-out loss" : fmt::format("best held-out loss, step {}", losses.best_step),
               loss_text(losses.best));
  html += tile(fall < 0 ? "rise of held-out loss" : "fall of held-out loss",
               std::isfinite(fall) ? fmt::format("{:.1f} %", std::abs(fall)) : "–", fall > 0);
  const double trained = number(run.start, "parameters_trained"), total = number(run.start, "parameters_total");
  if (trained >= 0 && total > 0) {
    html += tile(fmt::format("of {} parameters trained, {:.2f} % frozen", count(run.start, "parameters_total"),
                             (1 - trained / total) * 100),
                 count(run.start, "parameters_trained"));
  }
  const int64_t done = run.steps.empty() ? 0 : run.steps.rbegin()->first;
  html += tile("steps of " + count(run.start, "steps_total"), base::with_commas(static_cast<uint64_t>(done)));
  const double seconds = number(run.end, "seconds");
  const std::string reason = text(run.end, "reason");
  html += tile(run.end.empty() ? "no end recorded" : reason.empty() ? "ended" : reason,
               seconds >= 0 && seconds < 1e10 ? base::human_duration(seconds) : "–");
  return html + "</div>";
}

std::string charts_html(const std::vector<Chart>& charts) {
  if (charts.empty()) return "<p class=\"note\">No step has been recorded yet.</p>";
  std::string html = "<h2>Curves</h2>";
  for (const Chart& chart : charts) {
    html += fmt::format("<div class=\"chart\"><h3>{}</h3><div class=\"plot\" id=\"plot-{}\">{}</div></div>\n",
                        base::escape_html(chart.title), chart.id, to_svg(chart));
  }
  return html;
}

std::string curriculum(const RunRecord& run) {
  if (run.stages.empty()) return "";
  std::string html = "<h2>Curriculum</h2><div class=\"table\"><table><tr><th>Stage</th><th class=\"n\">From step</th>"
                     "<th class=\"n\">Examples admitted</th><th class=\"n\">Difficulty from</th><th class=\"n\">to</th></tr>";
  for (const Json& stage : run.stages) {
    html += fmt::format("<tr><td>{} of {}</td><td class=\"n\">{}</td><td class=\"n\">{} of {}</td><td class=\"n\">{}</td>"
                        "<td class=\"n\">{}</td></tr>\n",
                        count(stage, "stage"), count(stage, "stages"), count(stage, "step"), count(stage, "admitted"),
                        count(stage, "examples"), short_number(number(stage, "difficulty_from")),
                        short_number(number(stage, "difficulty_to")));
  }
  return html + "</table></div>";
}

std::string answers(const RunRecord& run) {
  if (run.samples.empty()) return "";
  std::string html = "<h2>Answers before and after</h2><div class=\"table\"><table class=\"answers\">"
                     "<tr><th>Question</th><th>Expected</th><th>Before</th><th>After</th></tr>";
  for (const Json& sample : run.samples) {
    html += "<tr>";
    for (const char* field : {"question", "expected", "before", "after"}) html += "<td>" + cell(text(sample, field)) + "</td>";
    html += "</tr>\n";
  }
  return html + "</table></div>";
}

std::string options(const RunRecord& run) {
  std::string html;
  if (const std::string command = text(run.start, "command"); !command.empty()) {
    html += "<h2>Command</h2><div class=\"table\"><table><tr><td><code>" + cell(command) + "</code></td></tr></table></div>";
  }
  const auto found = run.start.find("options");
  if (found == run.start.end() || !found->is_object() || found->empty()) return html;
  html += "<h2>Options</h2><div class=\"table\"><table>";
  size_t shown = 0;
  for (const auto& [name, value] : found->items()) {
    if (++shown > kMaxOptions) break;
    html += "<tr><th>" + cell(name) + "</th><td><code>" + cell(value) + "</code></td></tr>\n";
  }
  return html + "</table></div>";
}

std::string notes(const RunRecord& run) {
  std::string html;
  for (const int64_t step : run.resumes) html += fmt::format("<p class=\"note\">Resumed from step {}.</p>", step);
  if (run.unreadable > 0) html += fmt::format("<p class=\"note\">Unreadable lines skipped: {}.</p>", run.unreadable);
  return html;
}

std::string scripts(const std::vector<Chart>& charts) {
  if (vega_script().empty() || charts.empty()) return "";
  Json specs = Json::object();
  for (const Chart& chart : charts) specs[chart.id] = to_vega_lite(chart);
  return "<script type=\"application/json\" id=\"charts\">" + base::script_json(specs) + "</script>\n<script>" +
         std::string(vega_script()) + "</script>\n<script>" + kPageScript + "</script>\n";
}

std::string page(const RunRecord& run) {
  const std::vector<Chart> charts = make_charts(run);
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  // The browser itself refuses whatever this page would load from elsewhere.
  html += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
          "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:\">\n";
  html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  html += "<title>" + base::escape_html(title_of(run)) + "</title>\n<style>" + kPageStyle + "</style>\n</head>\n<body>\n";
  html += header(run) + summary(run) + charts_html(charts) + curriculum(run) + answers(run) + options(run) + notes(run) + "\n";
  return html + scripts(charts) + "</body>\n</html>\n";
}

}  // namespace

base::Status write_report(const base::fs::path& metrics_jsonl, const base::fs::path& html) {
  auto content = base::read_file(metrics_jsonl, kMaxMetrics);
  if (!content) return base::pass(content);
  auto run = parse_run(*content, metrics_jsonl.string());
  if (!run) return base::pass(run);
  return base::write_file_atomically(html, page(*run));
}

}  // namespace deepseek::train
