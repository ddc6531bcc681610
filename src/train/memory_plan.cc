#include "train/memory_plan.h"

#include <algorithm>

#include "base/text.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "models/adapter/matching.h"

namespace deepseek::train {
namespace {

using models::DecoderConfig;

// Elements that one layer keeps for its backward pass, for each token: the inputs of norms and of the adapters, q, k and v with
// their spread heads, gate, up and their product.
int64_t kept_elements(const DecoderConfig& c) {
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  return 7 * c.hidden_size + 6 * q + 4 * kv + 3 * c.intermediate_size;
}

std::string advice(const MemoryPlan& plan, const MemoryRequest& request, uint64_t available) {
  if (plan.weights > available * 9 / 10) {
    return request.element_size == 4 ? "use --dtype bf16, or a smaller model" : "the weights alone do not fit: use a smaller model or a machine with more memory";
  }
  std::string text;
  const auto add = [&](const char* what) { text += (text.empty() ? "" : ", ") + std::string(what); };
  if (!plan.checkpoint) add("use --gradient_checkpointing on");
  if (request.micro_batch_tokens > request.longest) add("lower --micro_batch_tokens");
  if (request.longest > 256) add("lower --context");
  if (request.element_size == 4) add("use --dtype bf16");
  if (plan.optimizer > available / 10) add("lower --lora_rank");
  return text.empty() ? "use a smaller model" : text;
}

}  // namespace

base::Result<int64_t> adapter_parameters(const DecoderConfig& model, const models::AdapterConfig& adapter) {
  const auto modules = models::linear_modules(model);
  auto matcher = models::ModuleMatcher::create(adapter, modules);
  if (!matcher) return base::pass(matcher);
  int64_t total = 0;
  for (const auto& module : modules) {
    if (matcher->targets(module.name)) total += matcher->adapter_of(module.name).rank * (module.out + module.in) + (adapter.use_dora ? module.out : 0);
  }
  return total;
}

MemoryPlan plan_memory(const DecoderConfig& model, int64_t trained, const MemoryRequest& request) {
  MemoryPlan plan;
  const int64_t tokens = std::max(request.micro_batch_tokens, request.longest), e = request.element_size;
  plan.parameters = model.parameters();
  plan.trained = trained;
  plan.checkpoint = request.checkpoint;
  plan.weights = static_cast<uint64_t>(plan.parameters * e);
  plan.adapter = static_cast<uint64_t>(trained * (4 + 4 + e));  // f32 values and gradients, and the copy in the weights' type
  plan.optimizer = static_cast<uint64_t>(trained * 8);
  const int64_t layer = kept_elements(model) * tokens * e;
  // Measured (memory_plan_test.cc): layers more that the backward pass holds, gradients and what the allocator keeps of them, and the
  // share of the logits of 512 rows that the loss keeps for its gradient, which in f32 leaves out less.
  const int64_t more = e == 4 ? 7 : 4;
  const double kept_logits = e == 4 ? 0.75 : 0.125;
  plan.activations = static_cast<uint64_t>(request.checkpoint ? (more + 1) * layer + model.num_layers * model.hidden_size * tokens * e
                                                              : (model.num_layers + more) * layer);
  plan.head = static_cast<uint64_t>(kept_logits * static_cast<double>(kernels::kLossRows * model.vocab_size * e)) +
              static_cast<uint64_t>((std::min(kernels::kLossGatherWords, model.vocab_size) + 3 * tokens) * model.hidden_size * e);
  plan.program = uint64_t{350} << 20;
  return plan;
}

base::Result<MemoryPlan> fitting_plan(const DecoderConfig& model, int64_t trained, MemoryRequest request, const std::string& checkpointing,
                                      uint64_t available) {
  if (checkpointing != "auto" && checkpointing != "on" && checkpointing != "off") {
    return base::refuse("gradient checkpointing '{}' is unknown; use auto, on or off", checkpointing);
  }
  request.checkpoint = checkpointing == "on";
  MemoryPlan plan = plan_memory(model, trained, request);
  if (checkpointing == "auto" && plan.total() > available * 8 / 10) {
    request.checkpoint = true;
    plan = plan_memory(model, trained, request);
  }
  if (plan.total() > available) {
    return base::refuse("this run needs about {} but only {} are available: {}\n{}", base::human_bytes(plan.total()), base::human_bytes(available),
                        advice(plan, request, available), plan.table(available));
  }
  return plan;
}

std::string MemoryPlan::table(uint64_t available) const {
  std::string out;
  const auto line = [&](const std::string& what, uint64_t bytes) { out += fmt::format("  {:<44}{:>10}\n", what, base::human_bytes(bytes)); };
  line(fmt::format("weights ({} parameters)", base::with_commas(static_cast<uint64_t>(parameters))), weights);
  line(fmt::format("adapter ({} parameters)", base::with_commas(static_cast<uint64_t>(trained))), adapter);
  line("optimiser (two moments)", optimizer);
  line(checkpoint ? "activations (recomputed layer by layer)" : "activations", activations);
  line("output head and loss", head);
  line("program and libraries", program);
  line("sum", total());
  if (available > 0) line("available", available);
  return out;
}

}  // namespace deepseek::train
