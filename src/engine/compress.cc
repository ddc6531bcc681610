#include "engine/compress.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "engine/compress_plan.h"
#include "engine/compress_search.h"
#include "hardware/memory.h"
#include "models/model.h"
#include "precision/rounding.h"

namespace deepseek::engine {
namespace {

using base::Result;
using base::Status;
using formats::DType;

constexpr int64_t kOwnTexts = 20, kOwnLength = 256, kOwnHeldOut = 4;
constexpr int64_t kRowsAtOnce = 8192, kRowsOfEach = 1024;  // where an error is only estimated, the first 1,024 of each 8,192 rows

class Compressor {
 public:
  Compressor(const models::ModelText& text, models::DecoderCheckpoint checkpoint, const CompressOptions& options)
      : text_(text), options_(options), checkpoint_(std::move(checkpoint)) {}

  Result<Compression> run(const base::fs::path& output) {
    auto places = matrix_places(checkpoint_);
    if (!places) return base::pass(places);
    places_ = std::move(*places);
    if (auto ready = prepare(); !ready) return base::pass(ready);
    auto types = chosen_types();
    if (!types) return base::pass(types);
    auto tensors = rounded_tensors(*types);
    if (!tensors) return base::pass(tensors);
    calibration_.reset();
    model_.reset();
    if (auto saved = models::save_tensors(text_, *tensors, output); !saved) return base::pass(saved);
    for (const auto& tensor : *tensors) result_.bytes_after += tensor.bytes.size();
    tensors->clear();
    if (auto measured = measure(output); !measured) return base::pass(measured);
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool stopped() const { return options_.stop_requested && options_.stop_requested(); }
  void report(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.on_progress) options_.on_progress(stage, done, total);
  }
  [[nodiscard]] bool automatic() const { return options_.format == "auto"; }
  [[nodiscard]] bool calibrates() const { return automatic() || (options_.calibrate && (options_.format == "int4" || options_.format == "q4_k")); }

  // The model in bf16, whatever the file has, and texts to calibrate and to measure with.
  Status prepare() {
    calibration_texts_ = options_.texts;
    held_out_ = options_.held_out;
    if (!calibrates() && !held_out_.empty()) return {};
    auto team = std::make_shared<hardware::Team>(options_.threads);
    auto weights = pack_checkpoint(checkpoint_, *team, {.as = PackAs::kFloats});
    if (!weights) return base::pass(weights);
    auto model = FusedModel::create(std::move(*weights), std::move(team), {(kOwnTexts + 1) * (FusedModel::kMostTokens + kernels::kPageTokens)});
    if (!model) return base::pass(model);
    model_ = std::move(*model);
    if (held_out_.empty()) {
      if (auto done = write_texts(); !done) return done;
    }
    calibration_.emplace(*model_, calibration_texts_, hardware::memory().available / 4);
    calibration_->stop_requested = options_.stop_requested;
    return {};
  }

  Status write_texts() {
    const auto& c = text_.config;
    std::vector<int32_t> never(text_.generation.eos_ids);
    std::erase_if(never, [&](int32_t id) { return id < 0 || id >= c.vocab_size; });
    const int64_t first = c.bos_id >= 0 ? c.bos_id : never.empty() ? 0 : never.front();
    const int64_t length = std::min(kOwnLength, c.max_position_embeddings);
    auto texts = own_texts(*model_, static_cast<int32_t>(first), never, kOwnTexts, length, options_.seed, [&](int64_t done, int64_t total) {
      report("texts to calibrate with", done, total);
      return !stopped();
    });
    if (!texts) return base::pass(texts);
    held_out_.assign(texts->end() - kOwnHeldOut, texts->end());
    texts->resize(texts->size() - kOwnHeldOut);
    if (calibration_texts_.empty()) calibration_texts_ = std::move(*texts);
    return {};
  }

  Status read_rows(const MatrixPlace& place, int64_t begin, int64_t count, float* to) const {
    Status status;
    for (int64_t r = 0; r < count && status; ++r) {
      const int64_t row = models::interleaved_row(begin + r, place.rows, place.heads);
      status = formats::dequantize_range(*place.info, row * place.columns, {to + r * place.columns, static_cast<size_t>(place.columns)});
    }
    return status;
  }

  // What a matrix reads; kept for those that read the same.
  struct Inputs {
    std::pair<int64_t, FusedModel::Input> site;
    at::Tensor moments;
    precision::InputFactor factor;
  };
  Result<Inputs> inputs_of(const MatrixPlace& place) {
    if (!calibrates()) return Inputs{};
    const std::pair site(place.layer < 0 ? text_.config.num_layers : place.layer, place.input);
    if (inputs_.moments.defined() && inputs_.site == site) return inputs_;
    auto moments = calibration_->moments(site.first, site.second);
    if (!moments) return base::pass(moments);
    // A tied embedding is also read row by row, where every column counts alike.
    const bool tied = place.layer < 0 && text_.config.tie_word_embeddings;
    auto factor = precision::InputFactor::create(*moments, tied ? kTiedDamping : kDamping);
    if (!factor) return base::within(place.name(), factor.error());
    inputs_ = {site, *moments, std::move(*factor)};
    return inputs_;
  }

  // A matrix in a type. `sample`: only a part of the rows of a large one, for its error; no bytes then.
  Result<RoundedMatrix> round(const MatrixPlace& place, DType type, bool sample) {
    RoundedMatrix out;
    Inputs inputs;
    if (formats::block_size(type).elements > 1) {
      auto found = inputs_of(place);
      if (!found) return base::pass(found);
      inputs = *found;
    }
    const at::Tensor& moments = inputs.moments;
    const precision::MatrixRounder rounder(type, place.columns, inputs.factor);
    if (!sample) out.bytes.resize(static_cast<size_t>(place.rows) * rounder.row_bytes());
    double moved = 0, all = 0;
    for (int64_t begin = 0; begin < place.rows; begin += kRowsAtOnce) {
      if (stopped()) return base::fail("interrupted; nothing was written");
      const int64_t count = std::min(sample ? kRowsOfEach : kRowsAtOnce, place.rows - begin);
      at::Tensor values = at::empty({count, place.columns}, at::kFloat);
      if (auto read = read_rows(place, begin, count, values.mutable_data_ptr<float>()); !read) return base::pass(read);
      const at::Tensor before = moments.defined() ? values.clone() : at::Tensor();
      std::vector<std::byte> unused(sample ? static_cast<size_t>(count) * rounder.row_bytes() : 0);
      const auto bytes = sample ? std::span(unused) : std::span(out.bytes).subspan(static_cast<size_t>(begin) * rounder.row_bytes(), static_cast<size_t>(count) * rounder.row_bytes());
      rounder.round({values.mutable_data_ptr<float>(), static_cast<size_t>(values.numel())}, bytes);
      if (!before.defined()) continue;
      const int64_t judged = std::min(count, kRowsOfEach);
      moved += precision::product_energy((values - before).slice(0, 0, judged), moments);
      all += precision::product_energy(before.slice(0, 0, judged), moments);
    }
    out.error = all > 0 ? moved / all : 0.0;
    return out;
  }

  Result<std::vector<DType>> chosen_types() {
    if (!automatic()) return types_for(options_.format, places_);
    TypeSearch search(*model_, places_, calibration_texts_,
                      {.max_kl = options_.max_kl,
                       .round = [this](const MatrixPlace& place, DType type, bool sample) { return round(place, type, sample); },
                       .on_progress = options_.on_progress,
                       .stop_requested = options_.stop_requested});
    auto chosen = search.run();
    if (!chosen) return base::pass(chosen);
    expected_ = std::move(chosen->expected);
    return std::move(chosen->types);
  }

  Result<std::vector<models::ReadyTensor>> rounded_tensors(const std::vector<DType>& types) {
    std::vector<models::ReadyTensor> out;
    for (size_t i = 0; i < places_.size(); ++i) {
      const MatrixPlace& place = places_[i];
      report("rounding", static_cast<int64_t>(i), static_cast<int64_t>(places_.size()));
      auto rounded = round(place, types[i], false);
      if (!rounded) return base::pass(rounded);
      result_.bytes_before += place.info->bytes.size();
      result_.matrices.push_back({place.name(), types[i], rounded->bytes.size(), rounded->error, i < expected_.size() ? expected_[i] : 0.0});
      out.push_back({place.module, place.layer, "weight", types[i], {place.rows, place.columns}, std::move(rounded->bytes)});
      checkpoint_.release(*place.info);
    }
    if (auto rest = add_vectors(out); !rest) return base::pass(rest);
    return out;
  }

  // Norms and biases, f32.
  Status add_vectors(std::vector<models::ReadyTensor>& out) {
    const auto& c = text_.config;
    Status status;
    const auto add = [&](const char* module, int64_t layer, const char* kind, int64_t size) {
      auto info = layer < 0 ? checkpoint_.top(module, {size}) : checkpoint_.layer(layer, module, {size}, kind);
      if (!info || !status) {
        if (status) status = base::pass(info);
        return;
      }
      std::vector<float> values(static_cast<size_t>(size)), ordered(values.size());
      if (auto read = formats::dequantize(**info, values); !read) status = read;
      const int64_t heads = std::strcmp(kind, "bias") == 0 ? checkpoint_.interleaved_heads(module) : 0;
      const bool norm = std::strstr(module, "norm") != nullptr;
      for (int64_t i = 0; i < size; ++i) {
        ordered[static_cast<size_t>(i)] = values[static_cast<size_t>(models::interleaved_row(i, size, heads))] - (norm && checkpoint_.norms_hold_one() ? 1.0f : 0.0f);
      }
      result_.bytes_before += (*info)->bytes.size();
      const auto bytes = std::as_bytes(std::span(ordered));
      out.push_back({module, layer, kind, DType::kF32, {size}, {bytes.begin(), bytes.end()}});
    };
    add("norm", -1, "weight", c.hidden_size);
    struct Nothing {};
    struct Layer {
      Nothing q, k, v, o, gate, up, down, input_norm, post_attention_norm, pre_feedforward_norm, post_feedforward_norm, q_norm, k_norm;
    };
    for (int64_t i = 0; i < c.num_layers && status; ++i) {
      const auto bias = [&](const char* module, int64_t rows, int64_t, bool has) {
        if (has) add(module, i, "bias", rows);
        return Nothing();
      };
      const auto norm = [&](const char* module, int64_t size) {
        add(module, i, "weight", size);
        return Nothing();
      };
      (void)models::read_decoder_layer<Layer>(c, bias, norm);
    }
    return status;
  }

  Status measure(const base::fs::path& output) {
    auto written = models::open_model(output.string());
    if (!written) return base::pass(written);
    auto reference = load_fused(text_, {.threads = options_.threads, .context = FusedModel::kMostTokens, .check_weights = false});
    if (!reference) return base::pass(reference);
    auto model = load_fused(*written, {.threads = options_.threads, .context = FusedModel::kMostTokens});
    if (!model) return base::pass(model);
    auto divergence = compare_models(**reference, **model, held_out_, {.threads = options_.threads, .stop_requested = options_.stop_requested,
        .on_progress = [&](int64_t done, int64_t total) { report("divergence", done, total); }});
    if (!divergence) return base::pass(divergence);
    result_.divergence = *divergence;
    return {};
  }

  static constexpr double kDamping = 0.01, kTiedDamping = 0.1;
  const models::ModelText& text_;
  const CompressOptions& options_;
  models::DecoderCheckpoint checkpoint_;
  std::vector<MatrixPlace> places_;
  TokenSequences calibration_texts_, held_out_;
  std::unique_ptr<FusedModel> model_;
  std::optional<Calibration> calibration_;
  Inputs inputs_;
  std::vector<double> expected_;
  Compression result_;
};

}  // namespace

const std::vector<std::string>& compress_formats() {
  static const std::vector<std::string> kFormats{"int4", "int8", "bf16", "q4_k", "q8_0", "auto"};
  return kFormats;
}

Result<Compression> compress(const models::ModelText& text, const base::fs::path& output, const CompressOptions& options) {
  const auto& known = compress_formats();
  if (std::find(known.begin(), known.end(), options.format) == known.end()) return base::refuse("format '{}' is unknown; use {}", options.format, fmt::join(known, ", "));
  if (!(options.max_kl > 0)) return base::refuse("max_kl must be positive");
  auto checkpoint = models::DecoderCheckpoint::open(text.path);
  if (!checkpoint) return base::pass(checkpoint);
  at::NoGradGuard no_grad;
  return Compressor(text, std::move(*checkpoint), options).run(output);
}

}  // namespace deepseek::engine
