// explain --prompt and --image.
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/progress.h"
#include "base/signals.h"
#include "cli/explain_arguments.h"

namespace deepseek::cli {
namespace {

using base::Result;
using base::Status;

// A bar of coalitions.
std::function<void(int64_t, int64_t)> coalitions(std::unique_ptr<base::Progress>& bar, const Context& context) {
  if (context.quiet) return {};
  return [&bar](int64_t asked, int64_t budget) {
    if (!bar) bar = std::make_unique<base::Progress>("explaining", static_cast<uint64_t>(budget), "coalition");
    bar->update(static_cast<uint64_t>(asked));
  };
}

Result<std::vector<std::string>> lines_of(const std::string& path) {
  auto text = base::read_file(path, size_t{16} << 20);
  if (!text) return base::pass(text);
  std::vector<std::string> lines;
  for (size_t from = 0; from < text->size();) {
    const size_t end = std::min(text->find('\n', from), text->size());
    std::string line = text->substr(from, end - from);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(std::move(line));
    from = end + 1;
  }
  return lines;
}

Status choose_class(const std::string& name, explain::ImageOptions& o) {
  if (name.empty()) return {};
  for (size_t i = 0; i < o.classes.size(); ++i) {
    if (o.classes[i] == name) o.output = static_cast<int64_t>(i);
  }
  int64_t number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (!o.output && error == std::errc() && end == name.data() + name.size()) o.output = number;
  if (!o.output) return base::refuse("there is no class '{}'; use a number, or a name of --classes", name);
  return {};
}

// Options that both share; explain(options) with a bar, and its document.
template <typename Options, typename Explain>
Status explain_and_show(Options& o, const Explain& explain, const ExplainArguments& a, const Context& context) {
  const explain::ExplainOptions& general = a.request.options;
  o.budget = general.budget;
  o.precision = general.precision;
  o.confidence = general.confidence;
  o.pairs = general.pairs;
  o.seed = general.seed;
  o.stop_requested = base::interrupted;
  std::unique_ptr<base::Progress> bar;
  o.on_progress = coalitions(bar, context);
  auto document = explain(o);
  bar.reset();
  if (!document) return base::pass(document);
  return hand_out(*document, a, context);
}

}  // namespace

Status explain_prompt(ExplainArguments& a, const Context& context) {
  explain::PromptOptions& o = a.prompt;
  o.model = a.request.model;
  if (o.model.empty()) return base::refuse("--model is missing: the language model whose answer is explained");
  if (!a.answer.empty()) o.answer = a.answer;
  o.threads = context.threads;
  return explain_and_show(o, [](const auto& options) { return explain::explain_prompt(options); }, a, context);
}

Status explain_image(ExplainArguments& a, const Context& context) {
  explain::ImageOptions& o = a.picture;
  if (a.request.model.empty()) return base::refuse("--model is missing: an image classifier, .onnx or TorchScript .pt");
  auto hidden = explain::hidden_as_named(a.hidden_as);
  if (!hidden) return base::pass(hidden);
  if (a.size.size() > 2) return base::refuse("--size takes one number, or width and height");
  o.image = a.image;
  o.hidden_as = *hidden;
  o.width = a.size.front();
  o.height = a.size.back();
  o.overlay = a.overlay;
  if (!a.classes.empty()) {
    auto names = lines_of(a.classes);
    if (!names) return base::pass(names);
    o.classes = std::move(*names);
  }
  if (auto chosen = choose_class(a.request.output, o); !chosen) return chosen;
  auto model = explain::open_image_model(a.request.model, context.threads);
  if (!model) return base::pass(model);
  o.model = std::move(*model);
  return explain_and_show(o, [](const auto& options) { return explain::explain_image(options); }, a, context);
}

void add_media_options(CLI::App& app, ExplainArguments& a) {
  app.add_option("--prompt", a.prompt.prompt, "explain which words of it drove the answer of a language model");
  app.add_option("--answer", a.answer, "of --prompt: the answer in question [what the model answers]");
  app.add_flag("--chat", a.prompt.chat, "of --prompt: through the model's chat template");
  app.add_option("--system", a.prompt.system, "of --chat: a system message");
  app.add_option("--filler", a.prompt.filler, "of --prompt: stands for words that are hidden [they are left out]");
  app.add_option("--image", a.image, "explain which parts of it drove an image classifier");
  app.add_option("--size", a.size, "of --image: what the model reads, one number or width and height")->capture_default_str();
  app.add_option("--channels", a.picture.scale.channels, "of --image: 3, or 1 for grey")->capture_default_str();
  app.add_option("--mean", a.picture.scale.mean, "of --image: of the pixels, 0 to 1, one or one a channel [0]");
  app.add_option("--std", a.picture.scale.std, "of --image: their deviation [1]");
  app.add_option("--classes", a.classes, "of --image: file with a class name on each line");
  app.add_option("--regions", a.picture.regions, "of --image: superpixels")->capture_default_str();
  app.add_option("--hidden_as", a.hidden_as, "of --image: blur or mean")->capture_default_str();
  app.add_option("--overlay", a.overlay, "of --image: file for a PNG with the values in colour");
}

}  // namespace deepseek::cli
