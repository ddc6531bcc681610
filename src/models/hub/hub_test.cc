// Names to places: the registry, the cache's layout, and what is said about a model that is not here.
#include "models/hub/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "models/hub/packages.h"
#include "models/hub/places.h"

namespace deepseek::models {
namespace {

using ::testing::HasSubstr;
namespace fs = base::fs;

TEST(Registry, RowsAreWhole) {
  std::set<std::string> names;
  const std::set<std::string> families{"llama", "qwen2", "qwen3", "gemma2", "gemma3", "bert"};
  for (const auto& entry : registry()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name << " stands twice";
    EXPECT_TRUE(families.contains(entry.family)) << entry.name;
    EXPECT_TRUE(entry.repository.empty() || is_repository(entry.repository)) << entry.name;
    EXPECT_EQ(entry.repository.empty(), find_packaged(entry.name) != nullptr) << entry.name << " comes from a hub or from packages";
    EXPECT_FALSE(entry.parameters.empty() || entry.licence.empty() || entry.note.empty()) << entry.name;
  }
  ASSERT_NE(find_entry("deepseek-7b"), nullptr);
  EXPECT_EQ(find_entry("deepseek-ai/deepseek-llm-7b-base"), find_entry("deepseek-7b"));
  EXPECT_EQ(find_entry("no-such-model"), nullptr);
}

class Places : public ::testing::Test {
 protected:
  void SetUp() override {
    scratch_ = fs::temp_directory_path() / ("deepseek-hub-" + std::to_string(::getpid()));
    fs::create_directories(scratch_ / "hub");
    ::setenv("HF_HUB_CACHE", (scratch_ / "hub").c_str(), 1);
    ::setenv("DEEPSEEK_GEMMA", (scratch_ / "gemma.gguf").c_str(), 1);
    ::setenv("DEEPSEEK_MINILM", (scratch_ / "minilm").c_str(), 1);
  }
  void TearDown() override {
    fs::remove_all(scratch_);
    ::unsetenv("HF_HUB_CACHE");
    ::unsetenv("DEEPSEEK_GEMMA");
    ::unsetenv("DEEPSEEK_MINILM");
  }
  void put(const fs::path& file) {
    fs::create_directories((scratch_ / file).parent_path());
    std::ofstream(scratch_ / file) << "x";
  }
  static std::string refusal(const std::string& spec) {
    auto found = locate_model(spec);
    return found ? "found" : found.error().message;
  }
  fs::path scratch_;
};

TEST_F(Places, FindsSnapshotsOfTheCache) {
  EXPECT_EQ(refusal("deepseek-7b"), "the model deepseek-7b is not on this machine: get it with \"deepseek-cli pull deepseek-7b\" (6.9B parameters); "
                                    "no model is at hand yet; \"deepseek-cli pull gemma-3-270m\" is small and needs no token");
  const fs::path snapshot = "hub/models--deepseek-ai--deepseek-llm-7b-base/snapshots/abc";
  put(snapshot / "config.json");
  EXPECT_THAT(refusal("deepseek-7b"), HasSubstr("not on this machine"));  // no weights yet
  put(snapshot / "model.safetensors");
  for (const char* spec : {"deepseek-7b", "deepseek-ai/deepseek-llm-7b-base"}) EXPECT_EQ(*locate_model(spec), scratch_ / snapshot);
  put("hub/models--some--one/snapshots/1/config.json");
  put("hub/models--some--one/snapshots/1/model.safetensors.index.json");
  put("gemma.gguf");
  EXPECT_THAT(models_at_hand(), ::testing::ElementsAre("deepseek-7b", "gemma-3-270m", "some/one"));
  EXPECT_EQ(*locate_model("gemma-3-270m"), scratch_ / "gemma.gguf");
  EXPECT_THAT(refusal("qwen3-0.6b"), HasSubstr("at hand: deepseek-7b, gemma-3-270m, some/one"));
}

TEST_F(Places, APackagedDirectoryIsThereWithItsLastFile) {
  put("minilm/config.json");
  EXPECT_THAT(refusal("all-minilm-l6-v2"), HasSubstr("get it with \"deepseek-cli pull all-minilm-l6-v2\" (23M parameters)"));
  put("minilm/model.safetensors");
  EXPECT_EQ(*locate_model("all-minilm-l6-v2"), scratch_ / "minilm");
  EXPECT_THAT(models_at_hand(), ::testing::ElementsAre("all-minilm-l6-v2"));
}

TEST_F(Places, SaysWhatAPathLacks) {
  put("empty/readme.txt");
  EXPECT_THAT(refusal((scratch_ / "empty").string()), HasSubstr("without a config.json"));
  put("half/config.json");
  EXPECT_THAT(refusal((scratch_ / "half").string()), HasSubstr("no safetensors weights"));
  put("other.bin");
  EXPECT_THAT(refusal((scratch_ / "other.bin").string()), HasSubstr("neither a model directory nor a .gguf"));
  EXPECT_THAT(refusal("deepsek-7b"), HasSubstr("did you mean 'deepseek-7b'?"));
  EXPECT_THAT(refusal("/no/such/model.gguf"), HasSubstr("there is no /no/such/model.gguf"));
  EXPECT_THAT(refusal("owner/name"), HasSubstr("deepseek-cli pull owner/name"));
  EXPECT_THAT(refusal(""), HasSubstr("no model is named"));
}

TEST(Repository, NamesThatCouldLeaveTheCacheAreNone) {
  for (const char* name : {"../x", "a/../b", "a/b/c", "/etc/passwd", "a/", "a b/c", "a/..", ""}) EXPECT_FALSE(is_repository(name)) << name;
  EXPECT_TRUE(is_repository("Qwen/Qwen2.5-0.5B"));
}

}  // namespace
}  // namespace deepseek::models
