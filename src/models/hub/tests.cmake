deepseek_test(models hub/hub_test)
