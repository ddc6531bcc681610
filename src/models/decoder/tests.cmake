deepseek_test(models decoder/decoder_test)
