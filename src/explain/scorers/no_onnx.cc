// ONNX models in a build without OpenCV.
#include "explain/scorers/kinds.h"

namespace deepseek::explain {

base::Result<TableModel> open_onnx(const base::fs::path&, const ScorerOptions&, const KnownColumns&) { return base::fail("this build reads no ONNX models: it was made without OpenCV"); }

}  // namespace deepseek::explain
