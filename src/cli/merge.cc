// merge: an adapter into the weights that it was trained on.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "hardware/memory.h"
#include "models/adapter/adapter.h"
#include "models/model.h"

namespace deepseek::cli {
namespace {

using base::Status;
namespace fs = base::fs;

struct Arguments {
  std::string model, adapter, output, dtype = "auto";
  bool overwrite = false;
};

Status merge(const Arguments& a, const Context& context) {
  std::error_code error;
  if (fs::exists(a.output, error) && !fs::is_empty(a.output, error) && !a.overwrite) return base::refuse("{} is not empty: name another --output, or --overwrite", a.output);
  auto text = models::open_model(a.model);
  if (!text) return base::pass(text);
  auto dtype = models::resolve_dtype(a.dtype);
  if (!dtype) return base::pass(dtype);
  const uint64_t bytes = static_cast<uint64_t>(text->config.parameters()) * (*dtype == at::kBFloat16 ? 2 : 4);
  auto disk = hardware::disk_space(a.output);
  if (disk && disk->available < bytes + (uint64_t{64} << 20)) {
    return base::fail("the merged weights need {}, only {} are free at {}", base::human_bytes(bytes), base::human_bytes(disk->available), a.output);
  }
  auto model = models::load_weights(std::move(*text), {.dtype = a.dtype, .adapter = a.adapter});
  if (!model) return base::pass(model);
  models::merge_adapter(*model->decoder);
  if (auto done = models::save_model(*model, a.output); !done) return done;
  if (context.json) {
    context.print(nlohmann::ordered_json{{"output", a.output}, {"bytes", bytes}}.dump() + "\n");
  } else {
    context.print(fmt::format("{}\n", a.output));
    if (!context.quiet) base::log_info(fmt::format("{} of {} weights; try: deepseek-cli generate --model {} --prompt \"...\"", base::human_bytes(bytes),
                                                   *dtype == at::kBFloat16 ? "bf16" : "f32", a.output));
  }
  return {};
}

}  // namespace

Command merge_command() {
  return {"merge", "write a model with its adapter merged in", "deepseek-cli merge --model gemma-3-270m --adapter my-adapter --output merged", [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            app.add_option("--model", a->model, "name, directory or .gguf")->required();
            app.add_option("--adapter", a->adapter, "a PEFT adapter's directory")->required();
            app.add_option("--output", a->output, "directory for the merged model")->required();
            app.add_option("--dtype", a->dtype, "auto, f32 or bf16")->capture_default_str();
            app.add_flag("--overwrite", a->overwrite, "write into a directory that is not empty");
            return std::function<Status()>([a, &context] { return merge(*a, context); });
          }};
}

}  // namespace deepseek::cli
