deepseek_test(train report/report_test)
