list(APPEND DEEPSEEK_FORMATS_SOURCES table/cells.cc table/table.cc table/table_write.cc)
