// A net's file: safetensors with its weights and what standardises its columns.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <cmath>
#include <cstring>

#include "explain/training/net.h"
#include "explain/training/training_data.h"
#include "formats/weights/safetensors.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using formats::DType;

constexpr int64_t kMostUnits = 65536;  // of a hidden layer

std::vector<std::pair<std::string, std::vector<double>*>> scalings(Net& net) {
  std::vector<std::pair<std::string, std::vector<double>*>> all{{"target.mean", &net.target_mean}, {"target.scale", &net.target_scale}};
  if (!net.number_features.empty()) all.insert(all.begin(), {{"numbers.mean", &net.number_mean}, {"numbers.scale", &net.number_scale}});
  return all;
}

Result<const formats::TensorInfo*> found_in(const formats::SafeTensors& file, const std::string& name, DType type) {
  const auto* info = file.find(name);
  if (info == nullptr) return base::fail("the tensor '{}' is not there", name);
  if (info->type != type) return base::fail("the tensor '{}' holds {}, not {}", name, formats::dtype_name(info->type), formats::dtype_name(type));
  return info;
}

Status read_scaling(const formats::SafeTensors& file, const std::string& name, std::vector<double>& to) {
  auto info = found_in(file, name, DType::kF64);
  if (!info) return base::pass(info);
  if (Status ok = formats::check_shape(**info, {static_cast<int64_t>(to.size())}); !ok) return ok;
  std::memcpy(to.data(), (*info)->bytes.data(), to.size() * sizeof(double));
  const bool is_scale = name.ends_with("scale");
  for (const double x : to) {
    if (!std::isfinite(x) || (is_scale && x <= 0)) return base::fail("the tensor '{}' holds {}", name, x);
  }
  return {};
}

Status read_weight(const formats::SafeTensors& file, const std::string& name, const std::vector<int64_t>& shape, at::Tensor& to) {
  auto info = found_in(file, name, DType::kF32);
  if (!info) return base::pass(info);
  if (Status ok = formats::check_shape(**info, shape); !ok) return ok;
  to = at::empty(shape, at::kFloat);
  std::memcpy(to.mutable_data_ptr(), (*info)->bytes.data(), (*info)->bytes.size());
  if (!at::isfinite(to).all().item<bool>()) return base::fail("the tensor '{}' holds numbers that are not finite", name);
  return {};
}

// The length of a bias says how many units a layer has.
Result<int64_t> units_of(const formats::SafeTensors& file, const std::string& name) {
  auto info = found_in(file, name, DType::kF32);
  if (!info) return base::pass(info);
  const auto& shape = (*info)->shape;
  if (shape.size() != 1 || shape[0] < 1 || shape[0] > kMostUnits) return base::fail("the tensor '{}' is no bias of 1 to {} units", name, kMostUnits);
  return shape[0];
}

std::span<const std::byte> bytes_of(const void* data, size_t size) { return {static_cast<const std::byte*>(data), size}; }

}  // namespace

Status Net::save(const base::fs::path& file) const {
  Net net = *this;
  std::vector<formats::TensorToWrite> all;
  for (const auto& [name, values] : scalings(net)) {
    all.push_back({.name = name, .type = DType::kF64, .shape = {static_cast<int64_t>(values->size())}, .bytes = bytes_of(values->data(), values->size() * sizeof(double))});
  }
  for (const auto& [name, tensor] : net.tensors()) {
    *tensor = tensor->contiguous();
    all.push_back({.name = name, .type = DType::kF32, .shape = tensor->sizes().vec(), .bytes = bytes_of(tensor->const_data_ptr(), tensor->nbytes())});
  }
  return formats::write_safetensors(file, all);
}

Status Net::load(const base::fs::path& path) {
  auto file = formats::SafeTensors::open(path);
  if (!file) return base::pass(file);
  for (const auto& [name, values] : scalings(*this)) {
    if (Status ok = read_scaling(*file, name, *values); !ok) return base::within(path.string(), ok.error());
  }
  auto first = units_of(*file, "first.bias"), second = units_of(*file, "second.bias");
  for (auto* units : {&first, &second}) {
    if (!*units) return base::within(path.string(), units->error());
  }
  const std::vector<std::pair<at::Tensor*, std::vector<int64_t>>> shapes{
      {&number_weight, {*first, 2 * static_cast<int64_t>(number_features.size())}}, {&category_weight, {codes(), *first}}, {&bias, {*first}}, {&second_weight, {*second, *first}},
      {&second_bias, {*second}}, {&output_weight, {outputs, *second}}, {&output_bias, {outputs}}};
  for (const auto& [name, tensor] : tensors()) {
    for (const auto& [of, shape] : shapes) {
      if (of != tensor) continue;
      if (Status ok = read_weight(*file, name, shape, *tensor); !ok) return base::within(path.string(), ok.error());
    }
  }
  return {};
}

Result<TableModel> read_net(TableModel frame, const base::fs::path& file) {
  Net net = Net::of(frame.features, static_cast<int64_t>(frame.outputs.size()));
  if (Status ok = net.load(file); !ok) return base::pass(ok);
  return model_of_net(std::move(frame), std::move(net));
}

}  // namespace deepseek::explain
