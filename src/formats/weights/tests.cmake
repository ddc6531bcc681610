foreach(test dequantize gguf safetensors)
  deepseek_test(formats weights/${test}_test)
endforeach()
