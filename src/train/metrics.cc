#include "train/metrics.h"

#include <cerrno>
#include <cstring>

namespace deepseek::train {
namespace {

using Json = nlohmann::ordered_json;

// Lines that belong to steps up to `step`; a broken last line (a killed process) is dropped, and so is what only the end of a
// run writes.
std::string lines_until(const std::string& content, int64_t step) {
  std::string kept;
  for (size_t at = 0; at < content.size();) {
    const size_t end = content.find('\n', at);
    if (end == std::string::npos) break;
    const std::string line = content.substr(at, end - at);
    at = end + 1;
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    const std::string type = json.value("type", "");
    if (type == "end" || type == "sample") continue;
    if (json.contains("step") && json["step"].is_number() && json["step"].get<int64_t>() > step) continue;
    kept += line + "\n";
  }
  return kept;
}

}  // namespace

base::Result<Metrics> Metrics::open(const base::fs::path& path, std::optional<int64_t> resume_step) {
  std::string kept;
  if (resume_step && base::fs::exists(path)) {
    auto content = base::read_file(path);
    if (!content) return base::pass(content);
    kept = lines_until(*content, *resume_step);
  }
  if (auto done = base::write_file_atomically(path, kept); !done) return base::pass(done);
  return append(path);
}

base::Result<Metrics> Metrics::append(const base::fs::path& path) {
  Metrics metrics;
  metrics.path_ = path;
  metrics.file_.reset(std::fopen(path.c_str(), "a"));
  if (!metrics.file_) return base::fail("cannot write {}: {}", path.string(), std::strerror(errno));
  return metrics;
}

base::Status Metrics::write(const Json& line) {
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0) {
    return base::fail("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
  return {};
}

}  // namespace deepseek::train
