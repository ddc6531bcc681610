// merge: an adapter into the weights that it was trained on.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/output_place.h"
#include "models/adapter/adapter.h"
#include "models/adapter/indexer.h"
#include "models/decoder/load.h"
#include "models/model.h"

namespace deepseek::cli {
namespace {

using base::Status;
namespace fs = base::fs;

struct Arguments {
  std::string model, adapter, output, dtype = "auto";
  bool overwrite = false;
};

// "auto" keeps the type that the weights have.
base::Result<std::string> dtype_of(const Arguments& a, const models::ModelText& text) {
  if (a.dtype != "auto") return a.dtype;
  auto stored = models::stored_dtype(text.path);
  if (!stored) return base::pass(stored);
  return *stored == at::kFloat ? "f32" : "bf16";
}

Status write_merged(const Arguments& a, models::ModelText text, const std::string& dtype) {
  auto model = models::load_weights(std::move(text), {.dtype = dtype, .adapter = a.adapter});
  if (!model) return base::pass(model);
  models::merge_adapter(*model->decoder);
  if (base::interrupted()) return base::fail("interrupted; nothing was written to {}", a.output);
  if (auto done = models::save_model(*model, a.output); !done || !model->decoder->has_indexer()) return done;
  // Indexers are no part of the weights: they lie beside them.
  auto indexer = models::read_indexers(*model->decoder, a.adapter);
  if (!indexer) return base::pass(indexer);
  return models::write_indexers(*model->decoder, *indexer, a.output);
}

Status merge(const Arguments& a, const Context& context) {
  if (fs::path(a.output).extension() == ".gguf") return base::refuse("merge writes a directory: name another --output, and make a .gguf of it with compress");
  auto place = OutputPlace::open(a.output, a.overwrite);
  if (!place) return base::pass(place);
  if (auto known = models::resolve_dtype(a.dtype); !known) return base::pass(known);
  auto text = models::open_model(a.model);
  if (!text) return base::pass(text);
  if (auto fits = models::require_decoder(*text); !fits) return fits;
  const bool indexer = models::holds_indexer(a.adapter);
  if (indexer && !fs::exists(fs::path(a.adapter) / models::kAdapterConfigFile)) {
    return base::refuse("{} holds indexers alone, nothing that could be merged: use it with --adapter as it is", a.adapter);
  }
  auto dtype = dtype_of(a, *text);
  if (!dtype) return base::pass(dtype);
  const uint64_t bytes = static_cast<uint64_t>(text->config.parameters()) * (*dtype == "bf16" ? 2 : 4);
  if (auto room = place->needs(bytes); !room) return room;
  if (auto done = write_merged(a, std::move(*text), *dtype); !done) {
    place->restore();
    return done;
  }
  if (context.json) {
    context.print(nlohmann::ordered_json{{"output", a.output}, {"bytes", bytes}, {"dtype", *dtype}}.dump() + "\n");
  } else {
    context.print(fmt::format("{}\n", a.output));
    if (!context.quiet) {
      base::log_info(fmt::format("{} of {} weights; try: deepseek-cli generate --model {} --prompt \"...\"", base::human_bytes(bytes), *dtype,
                                 a.output));
      if (indexer) base::log_info(fmt::format("the indexers lie beside them; they are read with --adapter {}", a.output));
    }
  }
  return {};
}

}  // namespace

Command merge_command() {
  return {kMerge, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            app.add_option("--model", a->model, "name, directory or .gguf")->required();
            app.add_option("--adapter", a->adapter, "a PEFT adapter's directory")->required();
            app.add_option("--output", a->output, "directory for the merged model")->required();
            app.add_option("--dtype", a->dtype, "auto (what the weights have), f32 or bf16")->capture_default_str();
            app.add_flag("--overwrite", a->overwrite, "write into a directory that is not empty");
            return std::function<Status()>([a, &context] { return merge(*a, context); });
          }, true};
}

}  // namespace deepseek::cli
