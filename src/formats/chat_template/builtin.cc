// The families' formats as templates, written from their documentation; a model's own template comes before these.
#include <array>

#include "formats/chat_template/chat_template.h"

namespace deepseek::formats {
namespace {

struct Builtin {
  const char* name;
  const char* source;
};

constexpr std::array kBuiltins{
    // Meta's description of Llama 2's prompt: [INST] and <<SYS>>.
    Builtin{"llama-2", R"({%- set system = '' -%}
{%- set turns = messages -%}
{%- if messages and messages[0].role == 'system' -%}
{%- set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}
{%- if message.role == 'user' -%}
{{ bos_token + '[INST] ' + ((system if loop.first else '') + message.content).strip() + ' [/INST]' }}
{%- elif message.role == 'assistant' -%}
{{ ' ' + message.content.strip() + ' ' + eos_token }}
{%- else -%}{{ raise_exception('Only user and assistant roles are supported') }}{%- endif -%}
{%- endfor -%})"},
    // Meta's description of Llama 3's prompt: headers and <|eot_id|>.
    Builtin{"llama-3", R"({{- bos_token }}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%})"},
    // ChatML with Qwen 2's default system message.
    Builtin{"qwen2", R"({%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%})"},
    // ChatML; reasoning of turns before the last question is dropped, enable_thinking=false opens with an empty one.
    Builtin{"qwen3", R"({%- set ns = namespace(last=-1) -%}
{%- for message in messages -%}{%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}
{%- set content = message.content -%}
{%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last -%}{%- set content = content.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}
{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}
{%- endif -%})"},
    // Google's description of Gemma's turns; a system message goes before the first question.
    Builtin{"gemma", R"({{- bos_token -}}
{%- set system = '' -%}
{%- set turns = messages -%}
{%- if messages and messages[0].role == 'system' -%}
{%- set system = messages[0].content + '\n\n' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{ '<start_of_turn>' + role + '\n' + (system if loop.first else '') + message.content | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%})"},
    // DeepSeek LLM's documentation: "User: ...", "Assistant: ...".
    Builtin{"deepseek-llm", R"({{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ 'User: ' + message.content + '\n\n' }}
{%- elif message.role == 'assistant' -%}{{ 'Assistant: ' + message.content + eos_token }}
{%- elif message.role == 'system' -%}{{ message.content + '\n\n' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%})"},
    // DeepSeek V3's documentation: system text first, then turns between its own marks.
    Builtin{"deepseek-v3", R"({{- bos_token -}}
{%- for message in messages if message.role == 'system' -%}{{ ('' if loop.first else '\n\n') + message.content }}{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ '<｜User｜>' + message.content }}
{%- elif message.role == 'assistant' -%}
{%- set content = message.content.split('</think>')[-1] if '</think>' in message.content else message.content -%}
{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<｜Assistant｜>' }}{%- endif -%})"},
    // ChatML as OpenAI described it.
    Builtin{"chatml", R"({%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%})"},
};

}  // namespace

base::Result<ChatTemplate> ChatTemplate::builtin(std::string_view name) {
  for (const auto& known : kBuiltins) {
    if (name == known.name) return compile(known.source);
  }
  std::string names;
  for (const auto& known : kBuiltins) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return base::refuse("there is no chat template '{}'; known are {}", name, names);
}

std::vector<std::string> ChatTemplate::builtin_names() {
  std::vector<std::string> names;
  for (const auto& known : kBuiltins) names.emplace_back(known.name);
  return names;
}

}  // namespace deepseek::formats
