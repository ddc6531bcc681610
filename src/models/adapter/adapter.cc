#include "models/adapter/adapter.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "models/adapter/adapter_file.h"
#include "models/adapter/tensors.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;

}  // namespace

std::vector<nn::Linear*> linear_layers(Decoder& decoder) {
  std::vector<nn::Linear*> all;
  for (auto& layer : decoder.layers()) {
    for (auto* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) all.push_back(linear);
  }
  return all;
}

std::vector<const nn::Linear*> linear_layers(const Decoder& decoder) {
  const auto all = linear_layers(const_cast<Decoder&>(decoder));
  return {all.begin(), all.end()};
}

base::Status attach_adapter(Decoder& decoder, const AdapterConfig& config, uint64_t seed) {
  auto matcher = ModuleMatcher::create(config, linear_modules(decoder.config()));
  if (!matcher) return base::pass(matcher);
  at::NoGradGuard no_grad;
  for (auto* layer : linear_layers(decoder)) {
    layer->lora.reset();
    if (!matcher->targets(layer->name)) continue;
    const ModuleAdapter adapter = matcher->adapter_of(layer->name);
    const int64_t out = layer->weight.size(0), in = layer->weight.size(1);
    nn::Lora lora;
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    lora.a = seeded_uniform({adapter.rank, in}, bound, layer->name, seed).to(layer->weight.device());
    lora.b = at::zeros({out, adapter.rank}, lora.a.options());
    if (config.use_dora) lora.magnitude = at::linalg_vector_norm(layer->weight.to(at::kFloat), 2, at::IntArrayRef{1});
    lora.scale = adapter.scale;
    lora.dropout = config.dropout;
    layer->lora = std::move(lora);
  }
  return {};
}

Result<AdapterConfig> read_adapter(Decoder& decoder, const fs::path& directory) {
  auto file = read_adapter_file(directory, linear_modules(decoder.config()));
  if (!file) return base::pass(file);
  for (auto* layer : linear_layers(decoder)) {
    layer->lora.reset();
    const auto found = file->parts.find(layer->name);
    if (found == file->parts.end()) continue;
    const AdapterPart& part = found->second;
    const int64_t out = layer->weight.size(0), in = layer->weight.size(1);
    nn::Lora lora;
    lora.a = tensor_of(part.a, {part.rank, in}, layer->weight);
    lora.b = tensor_of(part.b, {out, part.rank}, layer->weight);
    if (!part.magnitude.empty()) lora.magnitude = tensor_of(part.magnitude, {out}, layer->weight);
    lora.scale = part.scale;
    lora.dropout = file->config.dropout;
    layer->lora = std::move(lora);
  }
  return std::move(file->config);
}

NamedTensors adapter_tensors(const Decoder& decoder) {
  NamedTensors tensors;
  for (const auto* layer : linear_layers(decoder)) {
    if (!layer->lora) continue;
    tensors.emplace_back(adapter_tensor_name(layer->name, "lora_A.weight"), layer->lora->a);
    tensors.emplace_back(adapter_tensor_name(layer->name, "lora_B.weight"), layer->lora->b);
    if (layer->lora->magnitude.defined()) tensors.emplace_back(adapter_tensor_name(layer->name, "lora_magnitude_vector"), layer->lora->magnitude);
  }
  return tensors;
}

base::Status write_adapter(const Decoder& decoder, const AdapterConfig& config, const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail("cannot create {}: {}", directory.string(), error.message());
  AdapterConfig written = config;
  if (written.target_pattern.empty()) {
    // PEFT writes the modules it found, so that the file means the same for every reader.
    std::set<std::string> found;
    for (const auto* layer : linear_layers(decoder)) {
      if (layer->lora) found.insert(layer->name.substr(layer->name.rfind('.') + 1));
    }
    const bool all = std::find(config.target_modules.begin(), config.target_modules.end(), "all-linear") != config.target_modules.end();
    if (all) written.target_modules.assign(found.begin(), found.end());
  }
  if (auto done = base::write_file_atomically(directory / kAdapterConfigFile, adapter_config_to_json(written).dump(2) + "\n"); !done) return done;
  return write_f32(directory / kAdapterWeightsFile, adapter_tensors(decoder));
}

void merge_adapter(Decoder& decoder) {
  for (auto* layer : linear_layers(decoder)) layer->merge();
}

}  // namespace deepseek::models
