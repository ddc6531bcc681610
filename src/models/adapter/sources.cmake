list(APPEND DEEPSEEK_MODELS_SOURCES adapter/adapter.cc adapter/config.cc adapter/matching.cc)
