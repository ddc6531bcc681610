deepseek_test(formats dataset/dataset_test)
