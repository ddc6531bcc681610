#include "models/adapter/adapter.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"
#include "models/adapter/config.h"
#include "models/adapter/matching.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;
namespace fs = base::fs;

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";

// SplitMix64: a small generator whose values depend on nothing but its seed.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
};

uint64_t seed_of(const std::string& name, uint64_t seed) {
  uint64_t hash = 0xCBF29CE484222325u ^ Random{seed}.next();
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001B3u;
  return hash;
}

at::Tensor uniform(std::vector<int64_t> shape, double bound, uint64_t seed) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  Random random{seed};
  float* values = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] = static_cast<float>((static_cast<double>(random.next() >> 11) * 0x1p-52 - 1.0) * bound);
  }
  return tensor;
}

std::vector<std::string> names_of(const Decoder& decoder) {
  std::vector<std::string> names;
  for (const auto* layer : linear_layers(decoder)) names.push_back(layer->name);
  return names;
}

double scale_of(const AdapterConfig& config, const ModuleAdapter& adapter) {
  const auto rank = static_cast<double>(adapter.rank);
  return adapter.alpha / (config.use_rslora ? std::sqrt(rank) : rank);
}

std::string key_of(const nn::Linear& layer, const char* tensor) { return "base_model.model." + layer.name + "." + tensor; }

// One tensor of an adapter file in f32.
Result<at::Tensor> read_tensor(const formats::SafeTensors& file, const std::string& name, const std::vector<int64_t>& shape) {
  const auto* info = file.find(name);
  if (info == nullptr) return fail("tensor '{}' is missing", name);
  if (info->shape != shape) {
    return fail("tensor '{}' has shape [{}], the configuration asks for [{}]", name, fmt::join(info->shape, ", "), fmt::join(shape, ", "));
  }
  if (auto finite = formats::check_finite(*info); !finite) return base::pass(finite);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  if (auto done = formats::dequantize(*info, {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())}); !done) return base::pass(done);
  return tensor;
}

base::Status fill(nn::Linear& layer, const formats::SafeTensors& file, std::set<std::string>& used) {
  const auto take = [&](const char* name, at::Tensor& into) -> base::Status {
    auto tensor = read_tensor(file, key_of(layer, name), into.sizes().vec());
    if (!tensor) return base::pass(tensor);
    into = tensor->to(layer.weight.device());
    used.insert(key_of(layer, name));
    return {};
  };
  if (auto done = take("lora_A.weight", layer.lora->a); !done) return done;
  if (auto done = take("lora_B.weight", layer.lora->b); !done) return done;
  if (!layer.lora->magnitude.defined()) return {};
  return take("lora_magnitude_vector", layer.lora->magnitude);
}

void detach_adapter(Decoder& decoder) {
  for (auto* layer : linear_layers(decoder)) layer->lora.reset();
}

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
  if (!(config.dropout >= 0 && config.dropout < 1)) return base::refuse("a LoRA dropout of {} is not in [0, 1)", config.dropout);
  auto matcher = ModuleMatcher::create(config, names_of(decoder));
  if (!matcher) return base::pass(matcher);
  const auto layers = linear_layers(decoder);
  for (const auto* layer : layers) {
    if (!matcher->targets(layer->name)) continue;
    const auto sound = check_adapter_size(layer->name, layer->weight.size(0), layer->weight.size(1), matcher->adapter_of(layer->name));
    if (!sound) return sound;
  }
  at::NoGradGuard no_grad;
  for (auto* layer : layers) {
    layer->lora.reset();
    if (!matcher->targets(layer->name)) continue;
    const ModuleAdapter adapter = matcher->adapter_of(layer->name);
    const int64_t out = layer->weight.size(0), in = layer->weight.size(1);
    nn::Lora lora;
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    lora.a = uniform({adapter.rank, in}, bound, seed_of(layer->name, seed)).to(layer->weight.device());
    lora.b = at::zeros({out, adapter.rank}, lora.a.options());
    if (config.use_dora) lora.magnitude = at::linalg_vector_norm(layer->weight.to(at::kFloat), 2, at::IntArrayRef{1});
    lora.scale = scale_of(config, adapter);
    lora.dropout = config.dropout;
    layer->lora = std::move(lora);
  }
  return {};
}

Result<AdapterConfig> read_adapter_config(const fs::path& directory) {
  if (!fs::exists(directory / kConfigFile)) {
    return fail("{} is no adapter: it has no {}", directory.string(), kConfigFile);
  }
  auto text = base::read_file(directory / kConfigFile, size_t{1} << 24);
  if (!text) return base::pass(text);
  auto json = base::parse_json(*text);
  if (!json) return base::within((directory / kConfigFile).string(), json.error());
  auto config = adapter_config_from_json(*json);
  if (!config) return base::within(directory.string(), config.error());
  return config;
}

Result<AdapterConfig> read_adapter(Decoder& decoder, const fs::path& directory) {
  auto config = read_adapter_config(directory);
  if (!config) return config;
  const std::string path = (directory / kWeightsFile).string();
  if (!fs::exists(path)) return fail("{} is no adapter: it has no {}", directory.string(), kWeightsFile);
  auto file = formats::SafeTensors::open(path);
  if (!file) return base::pass(file);
  if (auto attached = attach_adapter(decoder, *config, 0); !attached) return base::within(directory.string(), attached.error());
  std::set<std::string> used;
  for (auto* layer : linear_layers(decoder)) {
    if (!layer->lora) continue;
    if (auto done = fill(*layer, *file, used); !done) {
      detach_adapter(decoder);
      done.error().message += config->base_model.empty() ? "" : "; was it made for another model? Its configuration names " + config->base_model;
      return base::within(path, done.error());
    }
  }
  for (const auto& info : file->tensors()) {
    if (used.contains(info.name)) continue;
    detach_adapter(decoder);
    return fail("{}: tensor '{}' belongs to no module of this model that the adapter's configuration names", path, info.name);
  }
  return config;
}

std::vector<std::pair<std::string, at::Tensor>> adapter_tensors(const Decoder& decoder) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto* layer : linear_layers(decoder)) {
    if (!layer->lora) continue;
    tensors.emplace_back(key_of(*layer, "lora_A.weight"), layer->lora->a);
    tensors.emplace_back(key_of(*layer, "lora_B.weight"), layer->lora->b);
    if (layer->lora->magnitude.defined()) tensors.emplace_back(key_of(*layer, "lora_magnitude_vector"), layer->lora->magnitude);
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
  if (auto done = base::write_file_atomically(directory / kConfigFile, adapter_config_to_json(written).dump(2) + "\n"); !done) return done;
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorToWrite> tensors;
  for (const auto& [name, tensor] : adapter_tensors(decoder)) {
    kept.push_back(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    tensors.push_back({name, formats::DType::kF32, kept.back().sizes().vec(),
                       {static_cast<const std::byte*>(kept.back().const_data_ptr()), kept.back().nbytes()}});
  }
  return formats::write_safetensors(directory / kWeightsFile, tensors);
}

void merge_adapter(Decoder& decoder) {
  for (auto* layer : linear_layers(decoder)) layer->merge();
}

}  // namespace deepseek::models
