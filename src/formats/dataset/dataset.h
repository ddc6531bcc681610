// Training and evaluation records from JSON or JSONL, in the shapes that users have.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "formats/chat_template/chat_template.h"

namespace deepseek::formats {

enum class DatasetFormat { kAlpaca, kShareGpt, kOpenAi, kQuestionAnswer, kText };
[[nodiscard]] const char* dataset_format_name(DatasetFormat format);

/// One record, whatever its file looked like. Either `messages` (last one from the assistant) or `text` is filled.
struct Example {
  std::vector<ChatMessage> messages;
  std::string text;
  std::optional<double> difficulty;  ///< From the difficulty field: a number, or easy/medium/hard as 1/2/3.
  std::string difficulty_label;      ///< As written; "" where absent.
  std::string split;                 ///< "train", "validation", "test" or "" where the record names none ("valid", "dev", "val" mean validation).
  size_t row = 0;                    ///< Row number in the file, counted from 1.
};

struct Dataset {
  DatasetFormat format = DatasetFormat::kText;
  std::string description;  ///< For the log: "question/answer pairs (question, answer), JSON array, 560 rows"
  std::vector<Example> examples;
};

struct DatasetOptions {
  std::string difficulty_field = "difficulty";
  std::optional<DatasetFormat> format;  ///< Forced instead of recognised.
};

/// Reads and recognises. Errors name the row and what is missing: no rows, mixed shapes, a row without an answer, not UTF-8, broken JSON.
[[nodiscard]] base::Result<Dataset> read_dataset(const base::fs::path& path, const DatasetOptions& options = {});
/// The same from memory; `name` stands for the path in messages.
[[nodiscard]] base::Result<Dataset> parse_dataset(std::string_view content, const std::string& name, const DatasetOptions& options = {});

}  // namespace deepseek::formats
