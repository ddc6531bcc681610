deepseek_test(models adapter/adapter_test)
deepseek_test(models adapter/indexer_test)
