#include "models/deepseek/experts.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "nn/functional.h"

namespace deepseek::models {
namespace {

// The scores of experts outside the best groups become `nothing`.
at::Tensor in_best_groups(const DeepseekConfig& c, const at::Tensor& scores, double nothing) {
  if (c.num_groups == 1) return scores;
  const at::Tensor grouped = scores.unflatten(1, {c.num_groups, c.num_experts / c.num_groups});
  const at::Tensor of_group = c.sigmoid_routing ? std::get<0>(at::topk(grouped, 2, -1)).sum(-1) : grouped.amax(-1);
  const at::Tensor best = std::get<1>(at::topk(of_group, c.groups_per_token, -1));
  const at::Tensor kept = at::zeros(of_group.sizes(), of_group.options().dtype(at::kBool)).scatter(1, best, true);
  return grouped.masked_fill(~kept.unsqueeze(-1), nothing).flatten(1);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> route(const DeepseekConfig& c, const at::Tensor& logits, const at::Tensor& bias) {
  if (!c.sigmoid_routing) {
    const auto [weights, chosen] = at::topk(in_best_groups(c, at::softmax(logits, -1, at::kFloat), 0.0), c.experts_per_token, -1);
    return {chosen, weights * c.routing_scale};
  }
  const at::Tensor scores = logits.sigmoid();
  const at::Tensor chosen = std::get<1>(at::topk(in_best_groups(c, scores + bias, -std::numeric_limits<double>::infinity()), c.experts_per_token, -1));
  at::Tensor weights = scores.gather(1, chosen);
  if (c.normalize_routing) weights = weights / (weights.sum(-1, true) + 1e-20);
  return {chosen, weights * c.routing_scale};
}

at::Tensor feed_forward(const FeedForward& w, const at::Tensor& x) { return at::linear(nn::glu(at::linear(x, w.gate), at::linear(x, w.up), false), w.down); }

at::Tensor mixture(const DeepseekConfig& c, const DeepseekExperts& w, const at::Tensor& x) {
  const auto [chosen, weights] = route(c, at::linear(x.to(at::kFloat), w.router), w.router_bias);
  const at::Tensor flat = chosen.flatten().to(at::kCPU).contiguous(), flat_weights = weights.flatten();
  std::vector<std::vector<int64_t>> places(w.experts.size());  // of each expert in `flat`
  for (int64_t i = 0; i < flat.numel(); ++i) places[static_cast<size_t>(flat.const_data_ptr<int64_t>()[i])].push_back(i);
  at::Tensor sum = at::zeros(x.sizes(), x.options().dtype(at::kFloat));
  for (size_t e = 0; e < places.size(); ++e) {
    if (places[e].empty()) continue;
    const at::Tensor place = index_tensor(places[e]).to(x.device()), rows = at::floor_divide(place, c.experts_per_token);
    const at::Tensor out = feed_forward(w.experts[e], at::index_select(x, 0, rows)).to(at::kFloat) * at::index_select(flat_weights, 0, place).unsqueeze(1);
    sum.index_add_(0, rows, out);
  }
  return sum.to(x.scalar_type());
}

}  // namespace deepseek::models
