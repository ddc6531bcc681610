// compress: a model in fewer bits, and what that costs.
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/output_place.h"
#include "engine/compress.h"
#include "hardware/memory.h"

namespace deepseek::cli {
namespace {

using base::Status;
using Json = nlohmann::ordered_json;
namespace fs = base::fs;

constexpr size_t kWindow = 256;          // tokens of a text that are read together
constexpr size_t kTexts = 16, kHeldOut = 8;

struct Arguments {
  std::string model, output, format, text;
  double max_kl = 0.02;
  uint64_t seed = 0;
  bool no_calibrate = false, overwrite = false;
};

// The file's tokens in windows: every third is kept for measuring, so that both kinds come from all over the text.
Status read_text(const Arguments& a, const models::ModelText& model, engine::CompressOptions& options) {
  auto text = base::read_file(a.text, size_t{256} << 20);
  if (!text) return base::pass(text);
  const auto ids = model.tokenizer.encode(*text);
  const size_t windows = ids.size() / kWindow, step = std::max<size_t>(1, windows / (kTexts + kHeldOut));
  if (windows < 3) return base::refuse("{} has {} tokens; calibration needs at least {}", a.text, ids.size(), 3 * kWindow);
  for (size_t w = 0, n = 0; w < windows && n < kTexts + kHeldOut; w += step, ++n) {
    std::vector<int32_t> window(ids.begin() + static_cast<std::ptrdiff_t>(w * kWindow), ids.begin() + static_cast<std::ptrdiff_t>((w + 1) * kWindow));
    if (model.config.bos_id >= 0 && window.front() != model.config.bos_id) window.insert(window.begin(), static_cast<int32_t>(model.config.bos_id));
    (n % 3 == 2 ? options.held_out : options.texts).push_back(std::move(window));
  }
  return {};
}

std::string types_text(const engine::Compression& made) {
  std::map<std::string, std::pair<int64_t, uint64_t>> types;
  for (const auto& matrix : made.matrices) {
    auto& [count, bytes] = types[formats::dtype_name(matrix.type)];
    ++count;
    bytes += matrix.bytes;
  }
  std::string out;
  for (const auto& [name, sum] : types) out += fmt::format("{}{} in {} ({})", out.empty() ? "" : ", ", sum.first == 1 ? "1 matrix" : fmt::format("{} matrices", sum.first), name, base::human_bytes(sum.second));
  return out;
}

Json json_of(const Arguments& a, const engine::Compression& made, int64_t parameters) {
  Json matrices = Json::array();
  for (const auto& m : made.matrices) {
    Json row{{"module", m.module}, {"type", formats::dtype_name(m.type)}, {"bytes", m.bytes}, {"error", m.error}};
    if (a.format == "auto") row["expected_kl"] = m.kl;
    matrices.push_back(std::move(row));
  }
  const auto& d = made.divergence;
  return {{"output", a.output}, {"format", a.format}, {"bytes_before", made.bytes_before}, {"bytes", made.bytes_after},
          {"bits_per_weight", 8.0 * static_cast<double>(made.bytes_after) / static_cast<double>(parameters)}, {"kl", d.mean_kl}, {"largest_kl", d.largest_kl},
          {"agreement", d.agreement}, {"perplexity_before", std::exp(d.reference_loss)}, {"perplexity", std::exp(d.loss)}, {"tokens", d.tokens},
          {"matrices", std::move(matrices)}};
}

std::string table_of(const Arguments& a, const engine::Compression& made, int64_t parameters) {
  const auto& d = made.divergence;
  return fmt::format("{}\n"
                     "size          {} of {} ({:.2f} bits a weight)\n"
                     "types         {}\n"
                     "KL            {:.5f} nats a token (largest {:.3f}), measured on {} tokens{}\n"
                     "agreement     {:.2f}% of the most probable tokens\n"
                     "perplexity    {:.4f}, before {:.4f}\n",
                     a.output, base::human_bytes(made.bytes_after), base::human_bytes(made.bytes_before),
                     8.0 * static_cast<double>(made.bytes_after) / static_cast<double>(parameters), types_text(made), d.mean_kl, d.largest_kl, d.tokens,
                     a.text.empty() ? " that the model wrote itself" : "", 100 * d.agreement, std::exp(d.loss), std::exp(d.reference_loss));
}

Status check(const Arguments& a) {
  const auto& known = engine::compress_formats();
  if (std::find(known.begin(), known.end(), a.format) == known.end()) {
    return base::refuse("format '{}' is unknown; use {}", a.format, fmt::join(known, ", "));
  }
  if (!(a.max_kl > 0)) return base::refuse("--max_kl must be positive");
  return {};
}

Status compress(const Arguments& a, const Context& context) {
  if (auto ok = check(a); !ok) return ok;
  auto place = OutputPlace::open(a.output, a.overwrite);
  if (!place) return base::pass(place);
  auto text = models::open_model(a.model);
  if (!text) return base::pass(text);
  if (auto fits = models::require_decoder(*text); !fits) return fits;
  const int64_t parameters = text->config.parameters();
  if (auto room = place->needs(static_cast<uint64_t>(parameters) * (a.format == "bf16" ? 2 : 1)); !room) return room;
  engine::CompressOptions options{.format = a.format, .max_kl = a.max_kl, .calibrate = !a.no_calibrate, .texts = {}, .held_out = {}, .seed = a.seed, .threads = context.threads,
                                  .on_progress = {}, .stop_requested = [] { return base::interrupted(); }};
  if (!a.text.empty()) {
    if (auto read = read_text(a, *text, options); !read) return read;
  }
  std::string stage;
  std::unique_ptr<base::Progress> progress;
  if (!context.quiet) {
    options.on_progress = [&](const std::string& now, int64_t done, int64_t total) {
      if (now != stage) {
        progress.reset();
        progress = std::make_unique<base::Progress>(now, static_cast<uint64_t>(total), "step");
        stage = now;
      }
      progress->update(static_cast<uint64_t>(done));
    };
  }
  auto made = engine::compress(*text, a.output, options);
  progress.reset();
  if (!made) {
    place->restore();
    return base::pass(made);
  }
  context.print(context.json ? json_of(a, *made, parameters).dump() + "\n" : table_of(a, *made, parameters));
  if (!context.json && !context.quiet) base::log_info(fmt::format("try: deepseek-cli generate --model {} --prompt \"...\"", a.output));
  return {};
}

}  // namespace

Command compress_command() {
  return {kCompress, [](CLI::App& app, const Context& context) {
            auto a = std::make_shared<Arguments>();
            app.add_option("--model", a->model, "name, directory or .gguf")->required();
            app.add_option("--format", a->format, fmt::format("{}; auto chooses for each matrix", fmt::join(engine::compress_formats(), ", ")))->required();
            app.add_option("--output", a->output, "a directory, or a file that ends in .gguf, which llama.cpp loads too")->required();
            app.add_option("--max_kl", a->max_kl, "auto: divergence that it may cost, nats a token")->capture_default_str();
            app.add_option("--text", a->text, "a text to calibrate and to measure with; without it the model writes one");
            app.add_flag("--no_calibrate", a->no_calibrate, "round each weight to its nearest level, whatever the inputs are");
            app.add_option("--seed", a->seed, "of the texts that the model writes")->capture_default_str()->check(CLI::NonNegativeNumber);
            app.add_flag("--overwrite", a->overwrite, "write over what is there");
            return std::function<Status()>([a, &context] { return compress(*a, context); });
          }, true};
}

}  // namespace deepseek::cli
