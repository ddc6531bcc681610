list(APPEND DEEPSEEK_FORMATS_SOURCES
     weights/convert.cc weights/dequantize.cc weights/dequantize_k.cc weights/gguf.cc weights/gguf_parser.cc weights/gguf_write.cc
     weights/non_finite.cc weights/quant_fields.cc weights/quantize.cc weights/safetensors.cc weights/safetensors_header.cc weights/safetensors_write.cc
     weights/tensor_file.cc)
# Loops over blocks of bytes gain from -O3; without contraction the results are the same bits on every CPU.
set_source_files_properties(weights/convert.cc weights/dequantize.cc weights/dequantize_k.cc weights/non_finite.cc weights/quant_fields.cc weights/quantize.cc
                            PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")
