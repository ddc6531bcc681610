list(APPEND DEEPSEEK_FORMATS_SOURCES dataset/dataset.cc dataset/record.cc)
