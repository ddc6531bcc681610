deepseek_test(formats table/table_test)
