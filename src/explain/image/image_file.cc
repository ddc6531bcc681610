#include "explain/image/image_file.h"

#include <cstring>
#include <optional>

#include "base/text.h"

#ifdef DEEPSEEK_HAVE_OPENCV
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;

#ifdef DEEPSEEK_HAVE_OPENCV

constexpr size_t kMostBytes = size_t{64} << 20;
constexpr uint64_t kMostPixels = 64'000'000;

// What the file's head says, read before a decoder gets the file: a few bytes may ask for gigabytes.
struct Head {
  uint64_t width = 0, height = 0;
  bool whole = true;  // false: its end is not there
};

uint64_t big(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}
uint64_t little(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

std::optional<Head> png_head(std::string_view b) {
  if (!b.starts_with("\x89PNG\r\n\x1a\n")) return std::nullopt;
  if (b.size() < 33 || b.substr(12, 4) != "IHDR") return Head{.whole = false};
  Head head{.width = big(b, 16, 4), .height = big(b, 20, 4), .whole = false};
  for (size_t at = 8; at + 12 <= b.size();) {
    const uint64_t length = big(b, at, 4);
    if (length > b.size() - at - 12) break;
    if (b.substr(at + 4, 4) == "IEND") head.whole = true;
    at += 12 + length;
  }
  return head;
}

std::optional<Head> jpeg_head(std::string_view b) {
  if (!b.starts_with("\xff\xd8\xff")) return std::nullopt;
  Head head{.whole = false};
  for (size_t at = 2; at + 4 <= b.size();) {
    if (static_cast<uint8_t>(b[at]) != 0xff) break;
    const auto marker = static_cast<uint8_t>(b[at + 1]);
    if (marker == 0xff) {
      ++at;
      continue;
    }
    const uint64_t length = big(b, at + 2, 2);
    const bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame && at + 9 <= b.size()) head.height = big(b, at + 5, 2), head.width = big(b, at + 7, 2);
    if (marker == 0xda) {
      head.whole = b.find("\xff\xd9", at) != std::string_view::npos;
      break;
    }
    at += 2 + length;
  }
  return head;
}

std::optional<Head> webp_head(std::string_view b) {
  if (b.size() < 16 || !b.starts_with("RIFF") || b.substr(8, 4) != "WEBP") return std::nullopt;
  if (b.size() < 30) return Head{.whole = false};
  const std::string_view kind = b.substr(12, 4);
  Head head{.whole = little(b, 4, 4) + 8 <= b.size()};
  if (kind == "VP8X") head.width = little(b, 24, 3) + 1, head.height = little(b, 27, 3) + 1;
  else if (kind == "VP8L") head.width = (little(b, 21, 4) & 0x3fff) + 1, head.height = (little(b, 21, 4) >> 14 & 0x3fff) + 1;
  else head.width = little(b, 26, 2) & 0x3fff, head.height = little(b, 28, 2) & 0x3fff;
  return head;
}

std::optional<Head> bmp_head(std::string_view b) {
  if (!b.starts_with("BM")) return std::nullopt;
  if (b.size() < 26) return Head{.whole = false};
  const auto height = static_cast<int32_t>(little(b, 22, 4));  // below 0: from the top
  return Head{.width = little(b, 18, 4), .height = static_cast<uint64_t>(height < 0 ? -static_cast<int64_t>(height) : height)};
}

Status check_head(std::string_view bytes) {
  std::optional<Head> head;
  for (const auto& read : {png_head, jpeg_head, webp_head, bmp_head}) {
    if (head = read(bytes); head) break;
  }
  if (!head) return base::fail("is no PNG, JPEG, WebP or BMP image");
  if (!head->whole) return base::fail("is cut off: the image's end is not there");
  if (head->width == 0 || head->height == 0) return base::fail("is a broken image: it has no size");
  if (head->width > kMostPixels / head->height) return base::fail("has {} x {} pixels; at most {} are read", head->width, head->height, base::with_commas(kMostPixels));
  return {};
}

cv::Mat view_of(const RgbImage& image) {
  return cv::Mat(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, const_cast<uint8_t*>(image.pixels.data()));  // NOLINT: cv::Mat has no view of what is const
}

RgbImage copy_of(const cv::Mat& mat) {
  RgbImage image{.width = mat.cols, .height = mat.rows, .pixels = std::vector<uint8_t>(static_cast<size_t>(mat.cols) * static_cast<size_t>(mat.rows) * 3)};
  mat.copyTo(view_of(image));
  return image;
}

// OpenCV throws; its messages have several lines.
template <typename Body>
auto caught(const std::string& what, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const cv::Exception&) {
    return base::fail("{}", what);
  } catch (const std::bad_alloc&) {
    return base::fail("{}: not enough memory", what);
  }
}

#else

tl::unexpected<base::Error> lacks_opencv() { return base::fail("this build reads no images: it was made without OpenCV (CMake option DEEPSEEK_OPENCV)"); }

#endif

}  // namespace

#ifdef DEEPSEEK_HAVE_OPENCV

bool has_image_files() { return true; }

Result<RgbImage> read_image(const base::fs::path& path) {
  auto bytes = base::read_file(path, kMostBytes);
  if (!bytes) return base::pass(bytes);
  if (auto sound = check_head(*bytes); !sound) return base::fail("{} {}", path.string(), sound.error().message);
  const std::string broken = path.string() + " is a broken image";
  return caught(broken, [&]() -> Result<RgbImage> {
    const cv::Mat encoded(1, static_cast<int>(bytes->size()), CV_8U, bytes->data());
    cv::Mat decoded = cv::imdecode(encoded, cv::IMREAD_COLOR);
    if (decoded.empty()) return base::fail("{}", broken);
    cv::cvtColor(decoded, decoded, cv::COLOR_BGR2RGB);
    return copy_of(decoded);
  });
}

Status write_png(const base::fs::path& path, const RgbImage& image) {
  return caught(path.string() + ": the image cannot be encoded", [&]() -> Status {
    cv::Mat bgr;
    cv::cvtColor(view_of(image), bgr, cv::COLOR_RGB2BGR);
    std::vector<uint8_t> bytes;
    if (!cv::imencode(".png", bgr, bytes)) return base::fail("{}: the image cannot be encoded", path.string());
    return base::write_file_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  });
}

Result<RgbImage> resized(const RgbImage& image, int64_t width, int64_t height) {
  if (width < 1 || height < 1 || static_cast<uint64_t>(width) > kMostPixels / static_cast<uint64_t>(height)) return base::refuse("no image has {} x {} pixels", width, height);
  if (width == image.width && height == image.height) return image;
  return caught("the image cannot be resized", [&]() -> Result<RgbImage> {
    cv::Mat out;
    const bool shrinks = width <= image.width && height <= image.height;
    cv::resize(view_of(image), out, {static_cast<int>(width), static_cast<int>(height)}, 0, 0, shrinks ? cv::INTER_AREA : cv::INTER_LINEAR);
    return copy_of(out);
  });
}

#else

bool has_image_files() { return false; }
Result<RgbImage> read_image(const base::fs::path& /*path*/) { return lacks_opencv(); }
Status write_png(const base::fs::path& /*path*/, const RgbImage& /*image*/) { return lacks_opencv(); }
Result<RgbImage> resized(const RgbImage& /*image*/, int64_t /*width*/, int64_t /*height*/) { return lacks_opencv(); }

#endif

}  // namespace deepseek::explain
