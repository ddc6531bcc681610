#include "explain/scorers/open_model.h"

#include <algorithm>
#include <cmath>

#include "explain/scorers/kinds.h"
#include "explain/training/train_table.h"

namespace deepseek::explain {
namespace {

namespace fs = base::fs;
using base::Result;
using base::Status;

constexpr const char* kForms =
    "a model is http://..., https://..., command:PROGRAM ARGS, trees (XGBoost .json .ubj, LightGBM .txt), .onnx, TorchScript (.pt .pth), a linear model (.json "
    "with \"weights\"), or a "
    "directory that training wrote";
constexpr const char* kCommand = "command:";

bool is_url(const std::string& model) { return model.starts_with("http://") || model.starts_with("https://"); }

Status check(const ScorerOptions& o) {
  if (!(o.timeout > 0)) return base::refuse("a timeout of {} s is too short", o.timeout);
  if (o.retries < 0 || o.retries > 1000) return base::refuse("{} retries are none; 0 to 1000 are", o.retries);
  if (o.batch < 1 || o.batch > (1 << 24)) return base::refuse("a batch of {} rows is none; 1 to {} are", o.batch, 1 << 24);
  if (!o.probe.empty() && o.probe.size() != o.features.size()) {
    return base::refuse("the row to try a model with has {} numbers for {} features", o.probe.size(), o.features.size());
  }
  return {};
}

std::string shown(const std::string& model) {
  constexpr size_t kShown = 120;
  if (is_url(model)) return shown_url(model);
  std::string text = model.starts_with(kCommand) ? fmt::format("the program '{}'", model.substr(std::string_view(kCommand).size())) : model;
  return text.size() > kShown && model.starts_with(kCommand) ? text.substr(0, kShown) + "...'" : text;
}

// The first bytes of a file.
std::string head_of(const fs::path& path) {
  auto bytes = base::MappedFile::open(path);
  if (!bytes) return "";
  const auto head = bytes->bytes().subspan(0, std::min<size_t>(bytes->bytes().size(), 4096));
  return {reinterpret_cast<const char*>(head.data()), head.size()};
}

// XGBoost writes {"learner": ...} or {"version": ..., "learner": ...}.
bool holds_learner(const std::string& head) {
  constexpr std::string_view kKey = "\"learner\"";
  const size_t at = head.find(kKey);
  if (at == std::string::npos) return false;
  const size_t next = head.find_first_not_of(" \t\r\n", at + kKey.size());
  return next != std::string::npos && head[next] == ':';
}

Result<TableModel> open_directory(const fs::path& path) { return open_trained(path); }

// The description of a directory that training wrote, named instead of the directory.
bool is_part_of_trained(const fs::path& path) {
  std::error_code error;
  if (path.filename() != "model.json" || path.parent_path().empty()) return false;
  return fs::is_regular_file(path.parent_path() / "model.ubj", error) || fs::is_regular_file(path.parent_path() / "model.safetensors", error);
}

Result<TableModel> open_file(const fs::path& path, const ScorerOptions& options, const KnownColumns& known) {
  std::string kind = path.extension().string();
  std::transform(kind.begin(), kind.end(), kind.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (kind == ".onnx") return open_onnx(path, options, known);
  if (kind == ".pt" || kind == ".pth") return open_torchscript(path, options, known);
  const std::string head = head_of(path);
  if (is_part_of_trained(path)) return open_directory(path.parent_path());
  if (kind == ".json" && !holds_learner(head)) return open_linear(path, known);
  const bool trees = head.starts_with("tree\n") || head.starts_with("tree\r\n") ||
                     (head.starts_with("{") && (kind == ".ubj" || holds_learner(head) || head.find("learner") != std::string::npos));
  if (trees) return open_trees(path, known);
  if (kind == ".pkl" || kind == ".pickle" || kind == ".joblib") {
    return base::refuse("a pickle may run code when it is read; save the model as what it is, or serve it: {}", kForms);
  }
  const bool script = kind == ".py" || kind == ".sh" || kind == ".r" || head.starts_with("#!");
  if (script) return base::refuse("a program is started by command:, such as \"command:{}{}\"", kind == ".py" ? "python3 " : kind == ".r" ? "Rscript " : "./", path.string());
  return base::refuse("it is of no form that is read; {}", kForms);
}

Result<TableModel> open_any(const std::string& model, const ScorerOptions& options, const KnownColumns& known) {
  if (is_url(model)) return open_http(model, options, known);
  if (model.starts_with(kCommand)) return open_command(model.substr(std::string_view(kCommand).size()), options, known);
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (!fs::exists(status)) return base::refuse("there is no such file or directory; {}", kForms);
  if (fs::is_directory(status)) return open_directory(model);
  if (!fs::is_regular_file(status)) return base::refuse("it is no file; {}", kForms);
  return open_file(model, options, known);
}

// What every kind owes: as many scores as rows and outputs, and all of them numbers.
TableModel::Score checked(TableModel::Score score, std::string name, std::vector<FeatureText> features, size_t outputs) {
  return
      [score = std::move(score), name = std::move(name), features = std::move(features), outputs](std::span<const double> rows) -> Result<std::vector<double>> {
        const size_t width = features.size();
        auto scores = score(rows);
        if (!scores) return base::within(name, scores.error());
        if (scores->size() != rows.size() / width * outputs) {
          return base::fail("{}: it gave {} scores for {} rows of {} outputs", name, scores->size(), rows.size() / width, outputs);
        }
        const auto bad = std::find_if(scores->begin(), scores->end(), [](double x) { return !std::isfinite(x); });
        if (bad == scores->end()) return scores;
        const auto row = rows.subspan(static_cast<size_t>(bad - scores->begin()) / outputs * width, width);
        const auto missing = std::find_if(row.begin(), row.end(), [](double x) { return std::isnan(x); });
        if (missing == row.end()) return base::fail("{}: it gave the score {} for a row", name, *bad);
        return base::fail("{}: it gave the score {} for a row where '{}' is missing; fill in what is missing, or leave such rows out", name, *bad,
                          features[static_cast<size_t>(missing - row.begin())].name);
      };
}

}  // namespace

std::string shown_url(std::string url) {
  const size_t host = url.find("://"), end = std::min(url.find_first_of("/?#", host == std::string::npos ? 0 : host + 3), url.size());
  const size_t at = url.substr(0, end).rfind('@');
  if (host != std::string::npos && at != std::string::npos && at > host) url.erase(host + 3, at - host - 2);
  return url;
}

Result<TableModel> open_table_model(const std::string& model, const ScorerOptions& options) {
  if (Status ok = check(options); !ok) return base::pass(ok);
  auto known = known_columns(options);
  if (!known) return base::pass(known);
  const std::string name = shown(model);
  auto opened = open_any(model, options, *known);
  if (!opened) return opened.error().message.starts_with(name) ? base::pass(opened) : base::within(name, opened.error());
  opened->score = checked(std::move(opened->score), name, opened->features, opened->outputs.size());
  return opened;
}

}  // namespace deepseek::explain
