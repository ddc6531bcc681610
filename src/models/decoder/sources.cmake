list(APPEND DEEPSEEK_MODELS_SOURCES decoder/config.cc decoder/decoder.cc decoder/load.cc)
