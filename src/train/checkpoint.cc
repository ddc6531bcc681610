#include "train/checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <cstring>

#include "base/json.h"
#include "formats/weights/safetensors.h"

namespace deepseek::train {
namespace {

using base::fail;
using base::Result;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 2;

Json to_json(const TrainState& state, int64_t updates) {
  return {{"version", kVersion}, {"step", state.step}, {"updates", updates}, {"base_loss", state.base_loss}, {"best_loss", state.best_loss},
          {"base_recall", state.base_recall}, {"best_recall", state.best_recall},
          {"best_step", state.best_step}, {"bad_evaluations", state.bad_evaluations}, {"evaluation_due", state.evaluation_due},
          {"seconds", state.seconds}, {"threads", state.threads}, {"processes", state.processes}, {"run", state.run}};
}

// The first setting that is not as it was.
base::Status check_same_run(const Json& saved, const Json& now) {
  for (const auto& [key, value] : now.items()) {
    const Json before = saved.contains(key) ? saved[key] : Json(nullptr);
    if (before == value) continue;
    if (key == "dataset") {
      return base::refuse("cannot resume: the dataset or its split is not the one that this run began with (its rows, --validation, --loss_on, "
                          "--context); use the same, or --overwrite to begin anew");
    }
    return base::refuse("cannot resume: {} was {} when this run began and is {} now; use the same options, or --overwrite to begin anew", key,
                        before.dump(), value.dump());
  }
  return {};
}

base::Status restore(const formats::SafeTensors& file, const std::string& name, const at::Tensor& into) {
  const auto* info = file.find(name);
  if (info == nullptr || info->type != formats::DType::kF32 || info->shape != into.sizes().vec()) {
    return fail("'{}' is missing or of another shape", name);
  }
  at::Tensor values = at::empty_like(into, at::TensorOptions().device(at::kCPU), at::MemoryFormat::Contiguous);
  std::memcpy(values.data_ptr(), info->bytes.data(), info->bytes.size());
  into.copy_(values);
  return {};
}

}  // namespace

base::Status save_state(const base::fs::path& file, const TrainState& state, const std::vector<std::string>& names, AdamW& optimizer) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> kept;
  std::vector<formats::TensorToWrite> tensors;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    kept.push_back(tensor.detach().cpu().contiguous());
    tensors.push_back({name, formats::DType::kF32, kept.back().sizes().vec(),
                       {static_cast<const std::byte*>(kept.back().const_data_ptr()), kept.back().nbytes()}});
  };
  for (size_t i = 0; i < names.size(); ++i) {
    add(names[i], optimizer.parameters()[i]);
    add(names[i] + ".first_moment", optimizer.first_moments()[i]);
    add(names[i] + ".second_moment", optimizer.second_moments()[i]);
  }
  const auto examples = static_cast<int64_t>(state.difficulty.size());
  tensors.push_back({"difficulty", formats::DType::kF64, {examples}, std::as_bytes(std::span(state.difficulty))});
  return formats::write_safetensors(file, tensors, {{"state", to_json(state, optimizer.updates()).dump()}});
}

Result<TrainState> load_state(const base::fs::path& file, const Json& run, const std::vector<std::string>& names, AdamW& optimizer) {
  if (!base::fs::exists(file)) return base::refuse("there is nothing to resume: {} does not exist", file.string());
  auto opened = formats::SafeTensors::open(file);
  if (!opened) return base::pass(opened);
  const auto found = opened->metadata().find("state");
  if (found == opened->metadata().end()) return fail("{} is no training state", file.string());
  auto json = base::parse_json(found->second);
  if (!json) return base::within(file.string(), json.error());
  TrainState state;
  try {
    if (json->at("version") != kVersion) return fail("{} was written by another version of this program", file.string());
    state.step = json->at("step").get<int64_t>();
    state.base_loss = json->at("base_loss").get<double>();
    state.best_loss = json->at("best_loss").get<double>();
    state.base_recall = base::value_or(*json, "base_recall", -1.0);
    state.best_recall = base::value_or(*json, "best_recall", -1.0);
    state.best_step = json->at("best_step").get<int64_t>();
    state.bad_evaluations = json->at("bad_evaluations").get<int64_t>();
    state.evaluation_due = json->at("evaluation_due").get<bool>();
    state.seconds = json->at("seconds").get<double>();
    state.threads = json->at("threads").get<int64_t>();
    state.processes = json->at("processes").get<int64_t>();
    state.run = json->at("run");
    optimizer.set_updates(json->at("updates").get<int64_t>());
  } catch (const nlohmann::json::exception& error) {
    return fail("{}: {}", file.string(), error.what());
  }
  if (auto same = check_same_run(state.run, run); !same) return base::pass(same);
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < names.size(); ++i) {
    for (const auto& [suffix, tensor] : {std::pair<std::string, at::Tensor>{"", optimizer.parameters()[i]},
                                         {".first_moment", optimizer.first_moments()[i]}, {".second_moment", optimizer.second_moments()[i]}}) {
      if (auto done = restore(*opened, names[i] + suffix, tensor); !done) return base::within(file.string(), done.error());
    }
  }
  if (const auto* info = opened->find("difficulty"); info != nullptr && info->type == formats::DType::kF64) {
    state.difficulty.resize(static_cast<size_t>(info->elements()));
    std::memcpy(state.difficulty.data(), info->bytes.data(), info->bytes.size());
  }
  return state;
}

}  // namespace deepseek::train
