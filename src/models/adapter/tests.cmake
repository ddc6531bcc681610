deepseek_test(models adapter/adapter_test)
