list(APPEND DEEPSEEK_FORMATS_SOURCES
  chat_template/builtin.cc chat_template/chat_template.cc chat_template/evaluator.cc chat_template/functions.cc chat_template/lexer.cc chat_template/methods.cc
  chat_template/parser.cc chat_template/value.cc)
