#include "formats/dataset/record.h"

#include <algorithm>
#include <array>

namespace deepseek::formats {
namespace {

using base::fail;
using base::Status;

constexpr std::array<std::pair<const char*, const char*>, 10> kPairs{{{"question", "answer"}, {"prompt", "completion"}, {"prompt", "response"}, {"query", "response"},
                                                                     {"question", "response"}, {"query", "answer"}, {"input", "output"}, {"prompt", "answer"},
                                                                     {"problem", "solution"}, {"prompt", "output"}}};
constexpr std::array kTextFields{"text", "content"};

bool is_list(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_array();
}

bool names_from(const Json& list) { return !list.empty() && list.front().is_object() && list.front().contains("from"); }

// The text of a field; parts of a list ("type": "text") are joined.
base::Result<std::string> text_of(const Json& value, const std::string& what) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  if (!value.is_array()) return fail("{} is no text", what);
  std::string text;
  for (const auto& part : value) {
    if (part.is_string()) {
      text += part.get<std::string>();
    } else if (part.is_object() && part.contains("text") && part["text"].is_string()) {
      text += part["text"].get<std::string>();
    } else {
      return fail("{} has a part that is no text", what);
    }
  }
  return text;
}

bool blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

Status append(Example& example, const std::string& role, const Json& value, const std::string& what) {
  auto text = text_of(value, what);
  if (!text) return base::pass(text);
  example.messages.push_back({role, std::move(*text)});
  return {};
}

Status check_answer(const Example& example, const std::string& field) {
  if (example.messages.empty() || example.messages.back().role != "assistant") return fail("the conversation does not end with an answer");
  if (blank(example.messages.back().content)) return fail("the answer in '{}' is empty", field);
  return {};
}

Status fill_pair(const Json& record, const Shape& shape, Example& example) {
  if (const auto system = record.find("system"); system != record.end() && system->is_string() && !blank(system->get<std::string>())) {
    example.messages.push_back({"system", system->get<std::string>()});
  }
  if (!record.contains(shape.answer) || record[shape.answer].is_null()) return fail("there is no '{}': a row without an answer cannot be learned", shape.answer);
  if (auto done = append(example, "user", record[shape.question], "'" + shape.question + "'"); !done) return done;
  if (blank(example.messages.back().content)) return fail("the question in '{}' is empty", shape.question);
  if (auto done = append(example, "assistant", record[shape.answer], "'" + shape.answer + "'"); !done) return done;
  return check_answer(example, shape.answer);
}

Status fill_alpaca(const Json& record, Example& example) {
  if (!record.contains("output") || record["output"].is_null()) return fail("there is no 'output': a row without an answer cannot be learned");
  const auto optional = [&](const char* key) { return record.contains(key) && record[key].is_string() ? record[key].get<std::string>() : std::string(); };
  if (const std::string system = optional("system"); !blank(system)) example.messages.push_back({"system", system});
  if (is_list(record, "history")) {
    for (const auto& turn : record["history"]) {
      if (!turn.is_array() || turn.size() != 2) return fail("a turn of 'history' is not [question, answer]");
      if (auto done = append(example, "user", turn[0], "'history'"); !done) return done;
      if (auto done = append(example, "assistant", turn[1], "'history'"); !done) return done;
    }
  }
  auto instruction = text_of(record["instruction"], "'instruction'");
  if (!instruction) return base::pass(instruction);
  const std::string input = optional("input");
  std::string question = blank(input) ? *instruction : *instruction + "\n" + input;
  if (blank(question)) return fail("the question in 'instruction' is empty");
  example.messages.push_back({"user", std::move(question)});
  if (auto done = append(example, "assistant", record["output"], "'output'"); !done) return done;
  return check_answer(example, "output");
}

std::string role_named(const std::string& name) {
  if (name == "human" || name == "user" || name == "prompter") return "user";
  if (name == "gpt" || name == "assistant" || name == "bot" || name == "chatgpt" || name == "model") return "assistant";
  if (name == "system" || name == "developer") return "system";
  return name == "tool" || name == "function" || name == "observation" ? "tool" : "";
}

Status fill_conversation(const Json& record, const Shape& shape, Example& example) {
  const bool sharegpt = shape.format == DatasetFormat::kShareGpt;
  const char *who = sharegpt ? "from" : "role", *what = sharegpt ? "value" : "content";
  if (sharegpt && record.contains("system") && record["system"].is_string() && !blank(record["system"].get<std::string>())) {
    example.messages.push_back({"system", record["system"].get<std::string>()});
  }
  for (const auto& message : record[shape.question]) {
    if (!message.is_object() || !message.contains(who) || !message[who].is_string()) return fail("a message of '{}' has no '{}'", shape.question, who);
    const std::string role = role_named(message[who].get<std::string>());
    if (role.empty()) return fail("the role '{}' is not known; use system, user, assistant", message[who].get<std::string>());
    if (!message.contains(what) || message[what].is_null()) return fail("a message of '{}' has no '{}'", shape.question, what);
    if (auto done = append(example, role, message[what], std::string("'") + what + "'"); !done) return done;
  }
  // What follows the last answer teaches nothing.
  while (!example.messages.empty() && example.messages.back().role != "assistant") example.messages.pop_back();
  if (example.messages.empty()) return fail("the conversation in '{}' holds no answer", shape.question);
  return check_answer(example, shape.question);
}

}  // namespace

std::optional<Shape> shape_for(const Json& record, DatasetFormat format) {
  switch (format) {
    case DatasetFormat::kOpenAi:
      for (const char* key : {"messages", "conversations", "conversation"}) {
        if (is_list(record, key) && !names_from(record[key])) return Shape{format, key, key, ""};
      }
      return std::nullopt;
    case DatasetFormat::kShareGpt:
      for (const char* key : {"conversations", "conversation", "messages"}) {
        if (is_list(record, key) && names_from(record[key])) return Shape{format, key, key, ""};
      }
      return std::nullopt;
    case DatasetFormat::kAlpaca:
      return record.contains("instruction") ? std::optional(Shape{format, record.contains("input") ? "instruction, input, output" : "instruction, output", "instruction", "output"})
                                            : std::nullopt;
    case DatasetFormat::kQuestionAnswer:
      for (const auto& [question, answer] : kPairs) {
        if (record.contains(question) && record.contains(answer)) return Shape{format, std::string(question) + ", " + answer, question, answer};
      }
      // A question without any of the names of an answer: fill() says what is missing.
      for (const char* question : {"question", "query"}) {
        if (record.contains(question)) return Shape{format, std::string(question) + ", answer", question, "answer"};
      }
      return std::nullopt;
    case DatasetFormat::kText:
      for (const char* key : kTextFields) {
        if (record.contains(key)) return Shape{format, key, key, ""};
      }
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<Shape> recognise(const Json& record) {
  for (const auto format : {DatasetFormat::kOpenAi, DatasetFormat::kShareGpt, DatasetFormat::kAlpaca, DatasetFormat::kQuestionAnswer, DatasetFormat::kText}) {
    if (auto shape = shape_for(record, format)) return shape;
  }
  return std::nullopt;
}

std::string unrecognised(const Json& record) {
  std::string fields;
  for (const auto& [key, value] : record.items()) {
    if (fields.size() < 120) fields += (fields.empty() ? "" : ", ") + key;
  }
  return fmt::format("no known shape; it has the fields {}, known are instruction/output, conversations, messages, question/answer, text", fields.empty() ? "(none)" : fields);
}

Status fill(const Json& record, const Shape& shape, Example& example) {
  switch (shape.format) {
    case DatasetFormat::kAlpaca: return fill_alpaca(record, example);
    case DatasetFormat::kQuestionAnswer: return fill_pair(record, shape, example);
    case DatasetFormat::kShareGpt:
    case DatasetFormat::kOpenAi: return fill_conversation(record, shape, example);
    case DatasetFormat::kText: break;
  }
  auto text = text_of(record[shape.question], "'" + shape.question + "'");
  if (!text) return base::pass(text);
  if (blank(*text)) return fail("the text is empty");
  example.text = std::move(*text);
  return {};
}

}  // namespace deepseek::formats
