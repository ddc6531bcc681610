// ONNX files made safe and simple for an interpreter that trusts them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace deepseek::explain {

/// A model of one input and one output, both [rows, ...] f32.
struct OnnxNet {
  std::string bytes;     ///< an ONNX file again: only what the output needs, copies of constants resolved, its input [rows, features]
  std::string input, output;
  int64_t features = 0;
  int64_t rows = 1;      ///< that the file fixes; 1 where it leaves them open
};

/// Takes the output named "probabilities" or "scores" (or what a ZipMap of it was made from), else the last one that is a tensor of floats. Nothing is trusted: fields and
/// lengths are walked, tensors must hold as many numbers as their shape says, operators must be ones that nets of tables are made of, with their inputs.
/// `features` is what the data has: where the file leaves it open it is so many, else both must agree.
/// Errors: what is no ONNX file or cut off; weights in another file; several inputs; operators of ai.onnx.ml (trees, encoders), with graphs inside, or beyond the list.
/// Source: onnx.proto of ONNX 1.x, whose field numbers never change.
[[nodiscard]] base::Result<OnnxNet> read_onnx(std::string_view file, int64_t features);

}  // namespace deepseek::explain
