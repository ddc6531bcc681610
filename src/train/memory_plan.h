// What a fine-tuning run will hold in memory, known before anything is loaded.
#pragma once

#include <string>

#include "models/adapter/adapter.h"
#include "models/decoder/config.h"

namespace deepseek::train {

struct MemoryRequest {
  int64_t element_size = 2;         ///< bytes of a weight: 4 for f32, 2 for bf16
  int64_t micro_batch_tokens = 2048;///< tokens of one forward pass
  int64_t longest = 512;            ///< tokens of the longest example
  bool checkpoint = false;
};

struct MemoryPlan {
  uint64_t weights = 0, adapter = 0, optimizer = 0, activations = 0, head = 0, program = 0;  ///< bytes
  int64_t parameters = 0, trained = 0;
  bool checkpoint = false;
  [[nodiscard]] uint64_t total() const { return weights + adapter + optimizer + activations + head + program; }
  /// A few lines for people.
  [[nodiscard]] std::string table(uint64_t available) const;
};

/// Parameters of an adapter on a model that is not loaded. Errors as attach_adapter().
[[nodiscard]] base::Result<int64_t> adapter_parameters(const models::DecoderConfig& model, const models::AdapterConfig& adapter);

[[nodiscard]] MemoryPlan plan_memory(const models::DecoderConfig& model, int64_t trained, const MemoryRequest& request);

/// Chooses checkpointing (`checkpointing`: "auto", "on", "off") and refuses with advice what will not fit into `available` bytes.
[[nodiscard]] base::Result<MemoryPlan> fitting_plan(const models::DecoderConfig& model, int64_t trained, MemoryRequest request,
                                                    const std::string& checkpointing, uint64_t available);

}  // namespace deepseek::train
