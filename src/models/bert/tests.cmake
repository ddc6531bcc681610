deepseek_test(models bert/bert_test)
