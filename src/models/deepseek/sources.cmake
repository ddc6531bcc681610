list(APPEND DEEPSEEK_MODELS_SOURCES deepseek/config.cc deepseek/deepseek.cc deepseek/experts.cc deepseek/load.cc)
