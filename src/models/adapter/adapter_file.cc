#include "models/adapter/adapter_file.h"

#include <cmath>
#include <set>

#include "formats/weights/non_finite.h"
#include "formats/weights/safetensors.h"

namespace deepseek::models {
namespace {

using base::fail;
using base::Result;

class Reader {
 public:
  explicit Reader(const formats::SafeTensors& file) : file_(file) {}

  Result<AdapterPart> part(const LinearModule& module, const ModuleAdapter& adapter, bool dora) {
    AdapterPart out{.rank = adapter.rank, .scale = adapter.scale, .a = {}, .b = {}, .magnitude = {}};
    if (auto done = take(module, "lora_A.weight", {adapter.rank, module.in}, out.a); !done) return base::pass(done);
    if (auto done = take(module, "lora_B.weight", {module.out, adapter.rank}, out.b); !done) return base::pass(done);
    if (!dora) return out;
    if (auto done = take(module, "lora_magnitude_vector", {module.out}, out.magnitude); !done) return base::pass(done);
    return out;
  }
  // A tensor that no module took, or nothing.
  [[nodiscard]] const formats::TensorInfo* left() const {
    for (const auto& info : file_.tensors()) {
      if (!used_.contains(info.name)) return &info;
    }
    return nullptr;
  }

 private:
  base::Status take(const LinearModule& module, const char* tensor, const std::vector<int64_t>& shape, std::vector<float>& into) {
    const std::string name = adapter_tensor_name(module.name, tensor);
    const auto* info = file_.find(name);
    if (info == nullptr) return fail("tensor '{}' is missing", name);
    if (auto same = formats::check_shape(*info, shape); !same) return same;
    if (auto finite = formats::check_finite(*info); !finite) return finite;
    into.resize(static_cast<size_t>(info->elements()));
    used_.insert(name);
    return formats::dequantize(*info, into);
  }
  const formats::SafeTensors& file_;
  std::set<std::string> used_;
};

}  // namespace

std::string adapter_tensor_name(const std::string& module, const char* tensor) { return "base_model.model." + module + "." + tensor; }

void AdapterPart::merge_row(int64_t row, std::span<float> weights) const {
  for (int64_t k = 0; k < rank; ++k) {
    const auto factor = static_cast<float>(scale * b[static_cast<size_t>(row * rank + k)]);
    const float* from = a.data() + k * static_cast<int64_t>(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) weights[i] += factor * from[i];
  }
  if (magnitude.empty()) return;
  double squares = 0;
  for (const float w : weights) squares += static_cast<double>(w) * w;
  const auto factor = static_cast<float>(magnitude[static_cast<size_t>(row)] / std::sqrt(squares));
  for (float& w : weights) w *= factor;
}

Result<AdapterFile> read_adapter_file(const base::fs::path& directory, const std::vector<LinearModule>& modules) {
  auto config = read_adapter_config(directory);
  if (!config) return base::pass(config);
  const std::string path = (directory / kAdapterWeightsFile).string();
  if (!base::fs::exists(path)) return fail("{} is no adapter: it has no {}", directory.string(), kAdapterWeightsFile);
  auto file = formats::SafeTensors::open(path);
  if (!file) return base::pass(file);
  auto matcher = ModuleMatcher::create(*config, modules);
  if (!matcher) return base::within(directory.string(), matcher.error());
  AdapterFile out{std::move(*config), {}};
  Reader reader(*file);
  for (const auto& module : modules) {
    if (!matcher->targets(module.name)) continue;
    auto part = reader.part(module, matcher->adapter_of(module.name), out.config.use_dora);
    if (!part) {
      part.error().message += out.config.base_model.empty() ? "" : "; was it made for another model? Its configuration names " + out.config.base_model;
      return base::within(path, part.error());
    }
    out.parts.emplace(module.name, std::move(*part));
  }
  if (const auto* info = reader.left(); info != nullptr) {
    return fail("{}: tensor '{}' belongs to no module of this model that the adapter's configuration names", path, info->name);
  }
  return out;
}

}  // namespace deepseek::models
