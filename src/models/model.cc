#include "models/model.h"

#include <ATen/Context.h>
#include <ATen/cpu/Utils.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <array>

#include "models/adapter/adapter.h"
#include "models/adapter/indexer.h"
#include "models/decoder/load.h"

namespace deepseek::models {
namespace {

using base::Result;
namespace fs = base::fs;

constexpr std::array kBf16Features{"avx512_bf16", "amx_bf16", "arm_bf16"};

bool multiplies_bf16() {
  const auto capabilities = at::cpu::get_cpu_capabilities();
  return std::any_of(kBf16Features.begin(), kBf16Features.end(), [&](const char* feature) {
    const auto found = capabilities.find(feature);
    return found != capabilities.end() && found->second.isBool() && found->second.toBool();
  });
}

}  // namespace

Result<at::ScalarType> resolve_dtype(const std::string& dtype) {
  if (dtype == "f32") return at::kFloat;
  if (dtype == "bf16") return at::kBFloat16;
  if (dtype == "auto") return multiplies_bf16() ? at::kBFloat16 : at::kFloat;
  return base::refuse("dtype '{}' is unknown; use auto, f32 or bf16", dtype);
}

Result<WeightOptions> weight_options(const LoadOptions& options) {
  // GPUs before Ampere run bf16 too, slowly: --dtype f32 is for them.
  auto dtype = resolve_dtype(options.device == "cuda" && options.dtype == "auto" ? "bf16" : options.dtype);
  if (!dtype) return base::pass(dtype);
  WeightOptions load{.dtype = *dtype, .check_weights = options.check_weights};
  if (options.device == "cuda") {
    if (!at::hasCUDA()) return base::refuse("device 'cuda' was asked for, but this machine or this libtorch has none; use cpu");
    load.device = at::Device(at::kCUDA);
  } else if (options.device != "cpu") {
    return base::refuse("device '{}' is unknown; use cpu or cuda", options.device);
  }
  return load;
}

Result<std::unique_ptr<Decoder>> load_adapted_decoder(const fs::path& path, const LoadOptions& options) {
  auto load = weight_options(options);
  if (!load) return base::pass(load);
  auto decoder = load_decoder(path, *load);
  if (!decoder || options.adapter.empty()) return decoder;
  const bool indexer = holds_indexer(options.adapter);
  if (indexer) {
    if (auto read = read_indexers(**decoder, options.adapter); !read) return base::pass(read);
  }
  if (!indexer || fs::exists(options.adapter / kAdapterConfigFile)) {
    if (auto read = read_adapter(**decoder, options.adapter); !read) return base::pass(read);
  }
  return decoder;
}

Result<Model> load_weights(ModelText text, const LoadOptions& options) {
  auto decoder = load_adapted_decoder(text.path, options);
  if (!decoder) return base::pass(decoder);
  return Model{std::move(text), std::move(*decoder)};
}

Result<Model> load_model(const std::string& spec, const LoadOptions& options) {
  if (auto dtype = resolve_dtype(options.dtype); !dtype) return base::pass(dtype);
  auto text = open_model(spec);
  if (!text) return base::pass(text);
  return load_weights(std::move(*text), options);
}

}  // namespace deepseek::models
