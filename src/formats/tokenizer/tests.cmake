deepseek_test(formats tokenizer/tokenizer_golden_test PRIVATE ICU::uc)
deepseek_test(formats tokenizer/tokenizer_test)
