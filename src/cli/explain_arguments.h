// What the parts of the explain command share.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "explain/image/explain_image.h"
#include "explain/prompt/explain_prompt.h"
#include "explain/table_explanation.h"
#include "explain/training/train_table.h"

namespace deepseek::cli {

struct ExplainArguments {
  explain::TableRequest request;
  std::string data, background_data, groups, schema, resume, columns, worth = "marginal", engine = "auto", index = "SII";
  std::optional<int64_t> sample, rows;
  std::string output, html, language = "en";

  bool train = false;
  std::string learner = "trees", augment;
  explain::TrainTableOptions training;

  bool find_reliance = false;
  std::string expect, reference, feature, plan;
  double most_accuracy_lost = 0.01, target_reliance = 0;

  explain::PromptOptions prompt;
  std::string answer;

  std::string image, overlay, classes, hidden_as = "blur";
  explain::ImageOptions picture;
  std::vector<int64_t> size{224};
};

/// How many rows are explained where no sample was asked for.
[[nodiscard]] int64_t rows_wanted(const explain::TableExplanation& table, const ExplainArguments& arguments);

/// The document as the page, the file and on standard output, as was asked for.
[[nodiscard]] base::Status hand_out(const nlohmann::ordered_json& document, const ExplainArguments& arguments, const Context& context);

/// TableExplanation::explain_rows() behind a progress bar, until Ctrl-C.
[[nodiscard]] base::Result<explain::GlobalExplanation> explain_with_bar(const explain::TableExplanation& table, int64_t most, const std::string& title, const Context& context);

[[nodiscard]] base::Status explain_training(ExplainArguments& arguments, const Context& context);
[[nodiscard]] base::Status explain_reliance(ExplainArguments& arguments, const Context& context);
[[nodiscard]] base::Status explain_prompt(ExplainArguments& arguments, const Context& context);
[[nodiscard]] base::Status explain_image(ExplainArguments& arguments, const Context& context);

/// The options of explain_training() and explain_reliance(), and of prompts and images.
void add_training_options(CLI::App& app, ExplainArguments& arguments);
void add_media_options(CLI::App& app, ExplainArguments& arguments);

}  // namespace deepseek::cli
