list(APPEND DEEPSEEK_MODELS_SOURCES decoder/checkpoint.cc decoder/config.cc decoder/decoder.cc decoder/load.cc)
