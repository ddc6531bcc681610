foreach(test dequantize gguf quantize safetensors)
  deepseek_test(formats weights/${test}_test)
endforeach()
