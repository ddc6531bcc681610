#include "formats/chat_template/chat_template.h"

#include "base/text.h"
#include "formats/chat_template/evaluator.h"

namespace deepseek::formats {

struct ChatTemplate::Program {
  std::string source;
  jinja::Node root;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

base::Result<ChatTemplate> ChatTemplate::compile(std::string_view source) {
  constexpr size_t kMaxSource = 1 << 20;
  if (source.size() > kMaxSource) return base::fail("a chat template of {} bytes is too long", source.size());
  if (!base::is_utf8(source)) return base::fail("the chat template is not UTF-8");
  try {
    auto program = std::make_shared<Program>();
    program->source = std::string(source);
    program->root = jinja::parse(source);
    return ChatTemplate(std::move(program));
  } catch (const std::exception& trouble) {
    return base::fail("the chat template is wrong: {}", trouble.what());
  }
}

base::Result<std::string> ChatTemplate::render(const std::vector<ChatMessage>& messages, bool add_generation_prompt, const nlohmann::ordered_json& variables) const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return render_json(list, add_generation_prompt, variables);
}

base::Result<std::string> ChatTemplate::render_json(const nlohmann::ordered_json& messages, bool add_generation_prompt, const nlohmann::ordered_json& variables) const {
  try {
    jinja::Dict scope{{"messages", jinja::from_json(messages)}, {"add_generation_prompt", add_generation_prompt}, {"tools", jinja::Value()}, {"documents", jinja::Value()}};
    for (const auto& [key, value] : variables.items()) jinja::set(scope, key, jinja::from_json(value));
    return jinja::run(program_->root, std::move(scope));
  } catch (const std::exception& trouble) {
    return base::fail("the chat template refuses these messages: {}", trouble.what());
  }
}

const std::string& ChatTemplate::source() const { return program_->source; }

}  // namespace deepseek::formats
