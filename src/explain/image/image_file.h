// Images from files and to files, by OpenCV.
#pragma once

#include "base/files.h"
#include "base/result.h"
#include "explain/image/superpixels.h"

namespace deepseek::explain {

/// True where this build has OpenCV (CMake option DEEPSEEK_OPENCV); without it the functions below fail with a sentence that says so.
[[nodiscard]] bool has_image_files();

/// A PNG, JPEG, WebP or BMP file of at most 64 MiB and 64 million pixels, turned as its EXIF data say; what is transparent loses that. Fails where the file is of another kind, too
/// large, cut off or broken.
[[nodiscard]] base::Result<RgbImage> read_image(const base::fs::path& path);
[[nodiscard]] base::Status write_png(const base::fs::path& path, const RgbImage& image);
/// In another size, each side on its own: averaged where it shrinks, bilinear where it grows.
[[nodiscard]] base::Result<RgbImage> resized(const RgbImage& image, int64_t width, int64_t height);

}  // namespace deepseek::explain
