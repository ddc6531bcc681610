#include "cli/output_place.h"

#include "base/text.h"
#include "hardware/memory.h"

namespace deepseek::cli {

namespace fs = base::fs;

base::Result<OutputPlace> OutputPlace::open(const std::string& output, bool overwrite) {
  std::error_code error;
  OutputPlace place;
  place.path_ = output;
  const bool file = place.path_.extension() == ".gguf", directory = fs::is_directory(place.path_, error);
  place.existed_ = fs::exists(place.path_, error);
  if (place.existed_ && directory == file) return base::refuse("{} is {}: name another --output", output, directory ? "a directory" : "no directory");
  place.empty_ = !place.existed_ || (directory && fs::is_empty(place.path_, error));
  if (place.empty_ || overwrite) return place;
  return base::refuse("{} {}: name another --output, or --overwrite", output, file ? "exists" : "is not empty");
}

base::Status OutputPlace::needs(uint64_t bytes) const {
  auto disk = hardware::disk_space(path_);
  if (!disk || disk->available >= bytes + (uint64_t{64} << 20)) return {};
  return base::fail("the model needs up to {}, only {} are free at {}", base::human_bytes(bytes), base::human_bytes(disk->available), path_.string());
}

void OutputPlace::restore() const {
  std::error_code error;
  if (!empty_) return;
  if (!existed_) {
    fs::remove_all(path_, error);
    return;
  }
  for (const auto& entry : fs::directory_iterator(path_, error)) fs::remove_all(entry, error);
}

}  // namespace deepseek::cli
