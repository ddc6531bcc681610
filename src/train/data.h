// A dataset as the trainer needs it: tokens, split into what is trained on and what is held out.
#pragma once

#include <string>
#include <vector>

#include "formats/dataset/dataset.h"
#include "models/prompt.h"

namespace deepseek::train {

struct DataOptions {
  models::LossOn loss_on = models::LossOn::kAnswer;
  int64_t context = 0;             ///< longest example in tokens; 0: what the model can take
  int64_t vocabulary = 0;          ///< tokens that the model has an embedding for; 0: not checked
  double validation_share = 0.1;   ///< held out where the dataset names no validation rows; 0: none
  bool join = false;               ///< short rows are laid end to end into windows of up to `context` tokens
  uint64_t seed = 42;
};

struct TrainingData {
  std::vector<models::TokenizedExample> train, validation;
  std::vector<formats::Example> held_out;  ///< the validation rows as they were read, for samples
  bool has_difficulty = false;             ///< every training row names its difficulty
  size_t test_rows = 0;                    ///< rows of split "test", left alone
  int64_t longest = 0;                     ///< tokens of the longest example
  uint64_t hash = 0;                       ///< of all tokens and of which ones count, so that a resumed run can tell another dataset
};

/// Raw text is cut into pieces of the context (512 tokens where none is given). Errors: an example longer than the context,
/// a token without an embedding, no training rows left, whatever tokenize_example() refuses.
[[nodiscard]] base::Result<TrainingData> prepare_data(const formats::Dataset& dataset, const formats::Tokenizer& tokenizer,
                                                      const formats::ChatTemplate* chat_template, int64_t max_positions,
                                                      const DataOptions& options);

}  // namespace deepseek::train
