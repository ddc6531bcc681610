#include "engine/weights.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <new>

#include "base/log.h"
#include "engine/weight_cache.h"
#include "formats/weights/non_finite.h"
#include "formats/weights/quant_fields.h"

namespace deepseek::engine {
namespace {

using base::Result;
using formats::DType;
using kernels::kTileRows;
using kernels::PackedFormat;
using kernels::PackedMatrix;
namespace packed = kernels::packed_formats;

PackedFormat format_of(DType type) {
  switch (type) {
    case DType::kQ4_0: return packed::kQ4_0;
    case DType::kQ4_1: return packed::kQ4_1;
    case DType::kQ5_0: return packed::kQ5_0;
    case DType::kQ5_1: return packed::kQ5_1;
    case DType::kQ8_0: return packed::kQ8_0;
    case DType::kQ4_K: return packed::kQ4_K;
    case DType::kQ5_K: return packed::kQ5_K;
    case DType::kQ6_K: return packed::kQ6_K;
    case DType::kF32:
    case DType::kF64: return packed::kF32;
    default: return packed::kBF16;
  }
}

void pack_integers(const formats::TensorInfo& info, int64_t heads, int64_t tile, PackedMatrix& out) {
  const auto block = formats::block_size(info.type);
  const int64_t groups = info.shape[1] / block.elements;
  for (int64_t g = 0; g < groups; ++g) {
    kernels::GroupValues rows[kTileRows];
    for (int64_t r = tile * kTileRows; r < std::min(out.rows(), (tile + 1) * kTileRows); ++r) {
      formats::QuantFields fields;
      formats::read_quant_fields(info.type, info.bytes.data() + (models::interleaved_row(r, out.rows(), heads) * groups + g) * block.bytes, fields);
      auto& row = rows[r % kTileRows];
      std::copy(fields.q, fields.q + block.elements, row.q);
      std::copy(fields.scales, fields.scales + 16, row.scales);
      std::copy(fields.mins, fields.mins + 16, row.mins);
      row.d = fields.d;
      row.dmin = fields.dmin;
    }
    out.set_group(tile, g, rows);
  }
}

base::Status pack_floats(const formats::TensorInfo& info, const models::AdapterPart* adapter, int64_t heads, int64_t tile, PackedMatrix& out) {
  std::vector<float> row(static_cast<size_t>(out.columns()));
  for (int64_t r = tile * kTileRows; r < std::min(out.rows(), (tile + 1) * kTileRows); ++r) {
    if (auto done = formats::dequantize_range(info, models::interleaved_row(r, out.rows(), heads) * out.columns(), row); !done) return done;
    if (adapter != nullptr) {
      adapter->merge_row(r, row);
      if (!std::all_of(row.begin(), row.end(), [](float w) { return std::isfinite(w); })) {
        return base::fail("with the adapter, weights of '{}' are not finite numbers", info.name);
      }
    }
    out.set_row(r, row);
  }
  return {};
}

class Packer {
 public:
  Packer(const models::DecoderCheckpoint& checkpoint, hardware::Team& team, const PackOptions& options, CachedMatrices* cached)
      : checkpoint_(checkpoint), team_(team), check_(options.check_weights), as_(options.as), cached_(cached) {}

  PackedMatrix matrix(const Result<const formats::TensorInfo*>& found, int64_t heads = 0, const models::AdapterPart* adapter = nullptr) {
    if (cached_ != nullptr && status_ && found) return std::move(cached_->matrices[next_++]);
    if (!sound(found)) return {};
    const formats::TensorInfo& info = **found;
    const bool integers = formats::has_quant_fields(info.type) && as_ == PackAs::kStored && adapter == nullptr;
    PackedMatrix out(integers ? format_of(info.type) : floats_for(info.type), info.shape[0], info.shape[1]);
    std::mutex mutex;
    team_.run([&](int) {
      team_.share(out.tiles(), 16, [&](int64_t begin, int64_t end) {
        for (int64_t tile = begin; tile < end; ++tile) {
          if (integers) {
            pack_integers(info, heads, tile, out);
          } else if (auto done = pack_floats(info, adapter, heads, tile, out); !done) {
            const std::lock_guard lock(mutex);
            status_ = done;
          }
        }
      });
    });
    checkpoint_.release(info);
    return out;
  }
  std::vector<float> vector(const Result<const formats::TensorInfo*>& found, float add = 0, int64_t heads = 0) {
    if (!sound(found)) return {};
    std::vector<float> values(static_cast<size_t>((*found)->elements())), out(values.size());
    if (auto done = formats::dequantize(**found, values); !done) status_ = done;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = values[static_cast<size_t>(models::interleaved_row(static_cast<int64_t>(i), static_cast<int64_t>(out.size()), heads))] + add;
    }
    return out;
  }
  std::vector<float> norm(const Result<const formats::TensorInfo*>& found) {
    const bool without_one = checkpoint_.config().norm_plus_one && !checkpoint_.norms_hold_one();
    return vector(found, without_one ? 1.0f : 0.0f);
  }
  [[nodiscard]] const base::Status& status() const { return status_; }

 private:
  [[nodiscard]] PackedFormat floats_for(DType type) const {
    const bool wide = type == DType::kF32 || type == DType::kF64;
    return as_ == PackAs::kF32 || (wide && as_ != PackAs::kBF16) ? packed::kF32 : packed::kBF16;
  }
  bool sound(const Result<const formats::TensorInfo*>& found) {
    if (!status_) return false;
    if (!found) {
      status_ = tl::make_unexpected(found.error());
    } else if (check_) {
      if (auto finite = formats::check_finite(**found); !finite) status_ = base::within(checkpoint_.path().string(), finite.error());
    }
    return status_.has_value();
  }
  const models::DecoderCheckpoint& checkpoint_;
  hardware::Team& team_;
  bool check_;
  PackAs as_;
  CachedMatrices* cached_;
  size_t next_ = 0;
  base::Status status_;
};

const models::AdapterPart* part_of(const models::AdapterFile& adapter, int64_t layer, const char* module) {
  if (adapter.parts.empty()) return nullptr;
  const auto found = adapter.parts.find(fmt::format("model.layers.{}.{}", layer, module));
  return found == adapter.parts.end() ? nullptr : &found->second;
}

PackedLayer pack_layer(Packer& packer, const models::DecoderCheckpoint& checkpoint, const models::AdapterFile& adapter, int64_t i) {
  const auto linear = [&](const char* module, int64_t out, int64_t in, bool bias) {
    PackedLinear made;
    const int64_t heads = checkpoint.interleaved_heads(module);
    made.weight = packer.matrix(checkpoint.layer(i, module, {out, in}), heads, part_of(adapter, i, module));
    if (bias) made.bias = packer.vector(checkpoint.layer(i, module, {out}, "bias"), 0, heads);
    return made;
  };
  const auto norm = [&](const char* module, int64_t size) { return packer.norm(checkpoint.layer(i, module, {size})); };
  return models::read_decoder_layer<PackedLayer>(checkpoint.config(), linear, norm);
}

auto no_memory(const models::DecoderConfig& config) { return base::fail("not enough memory for the weights of {} parameters", config.parameters()); }

}  // namespace

std::vector<const PackedMatrix*> PackedWeights::matrices() const {
  const auto all = const_cast<PackedWeights*>(this)->matrices();
  return {all.begin(), all.end()};
}

std::vector<PackedMatrix*> PackedWeights::matrices() {
  std::vector<PackedMatrix*> all{&embedding};
  if (!config.tie_word_embeddings) all.push_back(&own_head);
  for (auto& layer : layers) {
    for (auto* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) all.push_back(&linear->weight);
  }
  return all;
}

uint64_t PackedWeights::bytes() const {
  uint64_t sum = 0;
  for (const auto* matrix : matrices()) sum += matrix->bytes().size();
  return sum;
}

Result<PackAs> pack_as(const std::string& dtype) {
  if (dtype == "auto") return PackAs::kStored;
  if (dtype == "bf16") return PackAs::kBF16;
  if (dtype == "f32") return PackAs::kF32;
  return base::refuse("dtype '{}' is unknown; use auto, f32 or bf16", dtype);
}

Result<PackedWeights> pack_checkpoint(const models::DecoderCheckpoint& checkpoint, hardware::Team& team, const PackOptions& options) {
  PackedWeights out;
  out.config = checkpoint.config();
  const models::DecoderConfig& c = out.config;
  models::AdapterFile adapter;
  if (!options.adapter.empty()) {
    auto read = models::read_adapter_file(options.adapter, models::linear_modules(c));
    if (!read) return base::pass(read);
    adapter = std::move(*read);
  }
  const bool cache = options.cache && options.as == PackAs::kStored && options.adapter.empty();
  const base::fs::path file = cache ? weight_cache_path(checkpoint.path()) : base::fs::path();
  const uint64_t stamp = cache ? model_stamp(checkpoint.path()) : 0;
  auto cached = cache ? read_weight_cache(file, stamp, team) : std::nullopt;
  const auto expected = static_cast<size_t>(7 * c.num_layers + (c.tie_word_embeddings ? 1 : 2));
  if (cached && cached->matrices.size() != expected) cached.reset();
  Packer packer(checkpoint, team, options, cached ? &*cached : nullptr);
  try {
    out.embedding = packer.matrix(checkpoint.top("embed_tokens", {c.vocab_size, c.hidden_size}));
    if (!c.tie_word_embeddings) out.own_head = packer.matrix(checkpoint.top("lm_head", {c.vocab_size, c.hidden_size}));
    out.final_norm = packer.norm(checkpoint.top("norm", {c.hidden_size}));
    for (int64_t i = 0; i < c.num_layers && packer.status(); ++i) out.layers.push_back(pack_layer(packer, checkpoint, adapter, i));
  } catch (const std::bad_alloc&) {
    return no_memory(c);
  }
  if (!packer.status()) return tl::make_unexpected(packer.status().error());
  if (cached) {
    out.memory = std::move(cached->memory);
  } else if (cache && out.bytes() >= options.smallest_cache) {
    if (auto kept = write_weight_cache(file, stamp, out.matrices()); !kept) base::log_info("the packed weights could not be kept: " + kept.error().message);
  }
  return out;
}

}  // namespace deepseek::engine
