// pull: a model onto this machine.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/signals.h"
#include "cli/command.h"
#include "models/hub/hub.h"

namespace deepseek::cli {
namespace {

using base::Status;

struct Arguments {
  std::string model, cache;
  bool list = false;
  models::PullOptions options;
};

Status list(const Context& context) {
  const auto here = models::models_at_hand();
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string text = fmt::format("{:<24}{:<8}{:<6}{:<22}{}\n", "name", "size", "here", "licence", "what");
  for (const auto& entry : models::registry()) {
    const bool at_hand = std::find(here.begin(), here.end(), entry.name) != here.end();
    text += fmt::format("{:<24}{:<8}{:<6}{:<22}{}\n", entry.name, entry.parameters, at_hand ? "yes" : "", entry.licence, entry.note);
    json.push_back({{"name", entry.name}, {"repository", entry.repository}, {"parameters", entry.parameters}, {"licence", entry.licence}, {"at_hand", at_hand}});
  }
  for (const auto& name : here) {
    if (models::find_entry(name) == nullptr) text += fmt::format("{:<24}{:<8}{:<6}\n", name, "", "yes");
  }
  context.print(context.json ? json.dump() + "\n" : text);
  return {};
}

Status pull(Arguments& a, const Context& context) {
  if (a.list) return list(context);
  if (a.model.empty()) return base::refuse("name the model to pull; \"deepseek-cli pull --list\" shows the known ones");
  a.options.cache = a.cache;
  std::unique_ptr<base::Progress> progress;
  std::string file;
  a.options.progress = [&](const models::PullProgress& now) {
    if (!context.quiet) {
      if (now.file != file) {
        progress = std::make_unique<base::Progress>(now.file, now.total, "B");
        file = now.file;
      }
      progress->update(now.done);
    }
    return !base::interrupted();
  };
  auto path = models::pull_model(a.model, a.options);
  progress.reset();
  if (!path) return base::pass(path);
  context.print(context.json ? nlohmann::ordered_json{{"model", a.model}, {"path", path->string()}}.dump() + "\n" : path->string() + "\n");
  return {};
}

}  // namespace

Command pull_command() {
  return {{"pull", "download a model, or list the known ones", "deepseek-cli pull gemma-3-270m"}, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            app.add_option("model", a->model, "a known name, or owner/name on the hub");
            app.add_flag("--list", a->list, "show the known names and what is here");
            app.add_option("--revision", a->options.revision, "branch, tag or commit")->capture_default_str();
            app.add_option("--token", a->options.token, "access token [HF_TOKEN]");
            app.add_option("--endpoint", a->options.endpoint, "address of the hub [HF_ENDPOINT]");
            app.add_option("--cache_dir", a->cache, "where models are kept [HF_HUB_CACHE]");
            return std::function<Status()>([a, &context] { return pull(*a, context); });
          }};
}

}  // namespace deepseek::cli
