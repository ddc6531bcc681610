// What the tests of models share: a folder of their own, golden tables, small columns.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "explain/scorers/open_model.h"

namespace deepseek::explain::testing {

namespace fs = base::fs;
using Json = nlohmann::ordered_json;

/// An empty folder that goes with it.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fmt::format("deepseek_scorers_{}_{}", ::getpid(), count_++)) { fs::create_directories(path_); }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    return (path_ / name).string();
  }

 private:
  static inline int count_ = 0;
  fs::path path_;
};

inline fs::path golden(const std::string& name) { return fs::path(DEEPSEEK_SOURCE_DIR) / "tests/golden/scorers" / name; }

inline Json golden_json(const std::string& name) {
  auto json = base::read_json_file(golden(name));
  EXPECT_TRUE(json) << json.error().message;
  return json ? *json : Json();
}

inline void append(const Json& json, std::vector<double>& to) {
  if (json.is_array()) {
    for (const auto& item : json) append(item, to);
  } else {
    to.push_back(json.is_null() ? std::nan("") : json.get<double>());
  }
}
inline std::vector<double> numbers(const Json& json) {
  std::vector<double> to;
  append(json, to);
  return to;
}

inline std::vector<FeatureText> columns(const std::vector<std::string>& names) {
  std::vector<FeatureText> features;
  for (const auto& name : names) features.push_back({.name = name, .categories = {}});
  return features;
}

inline void expect_near(const base::Result<std::vector<double>>& found, const std::vector<double>& expected, double tolerance) {
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR((*found)[i], expected[i], tolerance * std::max(1.0, std::abs(expected[i]))) << i;
}

/// The error of something that must fail.
template <typename T>
std::string message_of(const base::Result<T>& result) {
  EXPECT_FALSE(result) << "it did not fail";
  return result ? "" : result.error().message;
}

}  // namespace deepseek::explain::testing
