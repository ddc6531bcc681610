list(APPEND DEEPSEEK_MODELS_SOURCES decoder/checkpoint.cc decoder/config.cc decoder/config_gguf.cc decoder/decoder.cc decoder/families.cc decoder/load.cc)
