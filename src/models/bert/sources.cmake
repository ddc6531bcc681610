list(APPEND DEEPSEEK_MODELS_SOURCES bert/config.cc bert/encoder.cc bert/load.cc bert/pooling.cc)
