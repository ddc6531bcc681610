list(APPEND DEEPSEEK_FORMATS_SOURCES
  tokenizer/added_tokens.cc tokenizer/bpe.cc tokenizer/decoder.cc tokenizer/from_gguf.cc tokenizer/from_vocab.cc tokenizer/normalizer.cc
  tokenizer/pre_tokenizer.cc tokenizer/regex.cc tokenizer/to_gguf.cc tokenizer/token_model.cc tokenizer/tokenizer.cc tokenizer/unicode.cc)
