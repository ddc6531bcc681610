// Chat templates: the part of Jinja2 that model families use, rendered as Transformers renders it
// (trim_blocks, lstrip_blocks, raise_exception, strftime_now, tojson, generation blocks, loop controls).
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deepseek::formats {

struct ChatMessage {
  std::string role;     ///< "system", "user", "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  /// Compiles a template; a syntax error names its line. Depth, loop and output limits guard against hostile templates.
  [[nodiscard]] static base::Result<ChatTemplate> compile(std::string_view source);
  /// One of the families' own templates, by name: "llama-2", "llama-3", "qwen2", "qwen3", "gemma", "deepseek-llm", "deepseek-v3", "chatml".
  [[nodiscard]] static base::Result<ChatTemplate> builtin(std::string_view name);
  [[nodiscard]] static std::vector<std::string> builtin_names();

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// Renders `messages`. `variables` adds what the template may ask for: bos_token, eos_token, tools, enable_thinking...
  /// Errors: raise_exception() in the template, an undefined operation, a limit reached.
  [[nodiscard]] base::Result<std::string> render(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                                                 const nlohmann::ordered_json& variables = nlohmann::ordered_json::object()) const;
  /// As above with messages as JSON (content lists, tool calls).
  [[nodiscard]] base::Result<std::string> render_json(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                                                      const nlohmann::ordered_json& variables) const;
  [[nodiscard]] const std::string& source() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;
};

}  // namespace deepseek::formats
