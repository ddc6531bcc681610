list(APPEND DEEPSEEK_MODELS_SOURCES adapter/adapter.cc adapter/adapter_file.cc adapter/config.cc adapter/indexer.cc adapter/matching.cc adapter/tensors.cc)
