deepseek_test(models deepseek/deepseek_test)
