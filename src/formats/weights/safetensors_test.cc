// safetensors: written and read back, shards by their index, and one sentence for each way to be broken.
#include "formats/weights/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

namespace deepseek::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = base::fs;

class SafeTensorsTest : public ::testing::Test {
 protected:
  SafeTensorsTest() : folder_(fs::temp_directory_path() / ("deepseek-safetensors-test-" + std::to_string(::getpid()))) { fs::create_directories(folder_); }
  ~SafeTensorsTest() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) { ASSERT_TRUE(base::write_file_atomically(folder_ / name, content)); }
  static std::string with_header(const std::string& header, size_t data, uint64_t length = 0) {
    if (length == 0) length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data, '\0');
  }
  std::string refusal(const std::string& header, size_t data = 0, uint64_t length = 0) {
    write("x.safetensors", with_header(header, data, length));
    const auto opened = SafeTensors::open(folder_ / "x.safetensors");
    return opened ? "accepted" : opened.error().message;
  }
  std::string folder_refusal() {
    const auto opened = SafeTensors::open(folder_);
    return opened ? "accepted" : opened.error().message;
  }
  fs::path folder_;
};

const std::vector<float> kFloats{1, 2, 3, 4, 5, 6};
const std::vector<uint16_t> kHalves{0x3C00, 0x4000};

std::vector<TensorToWrite> tensors() {
  return {{"b", DType::kF16, {2}, std::as_bytes(std::span(kHalves))}, {"a", DType::kF32, {2, 3}, std::as_bytes(std::span(kFloats))}, {"none", DType::kF32, {0, 3}, {}}};
}

TEST_F(SafeTensorsTest, WhatIsWrittenIsReadBack) {
  const fs::path path = folder_ / "m.safetensors";
  ASSERT_TRUE(write_safetensors(path, tensors(), {{"format", "pt"}, {"k", "\"ü\n"}}));
  const auto read = SafeTensors::open(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->metadata().at("k"), "\"ü\n");
  ASSERT_NE(read->find("a"), nullptr);
  EXPECT_THAT(read->find("a")->shape, ElementsAre(2, 3));
  EXPECT_EQ(std::memcmp(read->find("a")->bytes.data(), kFloats.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(read->find("a")->bytes.data()) % 8, 0u);
  std::vector<float> halves(2);
  ASSERT_TRUE(dequantize(*read->find("b"), halves));
  EXPECT_THAT(halves, ElementsAre(1, 2));
  EXPECT_EQ(read->find("none")->elements(), 0);
  const std::string first = *base::read_file(path);
  auto reversed = tensors();
  std::reverse(reversed.begin(), reversed.end());
  ASSERT_TRUE(write_safetensors(path, reversed, {{"format", "pt"}, {"k", "\"ü\n"}}));
  EXPECT_EQ(*base::read_file(path), first);
}

TEST_F(SafeTensorsTest, ShardsAreWrittenWithTheirIndexAndOlderFilesGo) {
  write("model.safetensors", "old");
  write("model-00001-of-00009.safetensors", "old");
  write("other.safetensors", "kept");
  ASSERT_TRUE(write_safetensors_sharded(folder_, tensors(), 24));
  EXPECT_FALSE(fs::exists(folder_ / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "model-00001-of-00009.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "other.safetensors"));
  const auto read = SafeTensors::open(folder_);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->files().size(), 2u);
  EXPECT_EQ(read->tensors().size(), 3u);
  EXPECT_EQ(std::memcmp(read->find("a")->bytes.data(), kFloats.data(), 24), 0);
  ASSERT_TRUE(write_safetensors_sharded(folder_, tensors()));
  EXPECT_TRUE(fs::exists(folder_ / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder_ / "model-00001-of-00002.safetensors"));
}

TEST_F(SafeTensorsTest, WhatCannotBeWrittenIsRefused) {
  auto twice = tensors();
  twice[0].name = "a";
  EXPECT_THAT(write_safetensors(folder_ / "m", twice).error().message, HasSubstr("\"a\" is given twice"));
  auto wrong = tensors();
  wrong[1].shape = {7};
  EXPECT_THAT(write_safetensors(folder_ / "m", wrong).error().message, HasSubstr("24 bytes do not match type F32 and shape [7]"));
  wrong[1].name = "__metadata__";
  EXPECT_THAT(write_safetensors(folder_ / "m", wrong).error().message, HasSubstr("cannot be a tensor's name"));
  EXPECT_FALSE(fs::exists(folder_ / "m"));
}

TEST_F(SafeTensorsTest, BrokenHeadersGiveOneSentence) {
  const std::string sound = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refusal(sound, 8), "accepted");
  EXPECT_THAT(refusal(sound, 7), HasSubstr("tensor \"a\" at bytes 0 to 8 is not inside the 7 bytes of data"));
  EXPECT_THAT(refusal(sound, 9), HasSubstr("1 bytes after the last tensor belong to none"));
  write("x.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n");
  EXPECT_THAT(SafeTensors::open(folder_ / "x.safetensors").error().message, HasSubstr("run 'git lfs pull'"));
  write("x.safetensors", "<!DOCTYPE html><html><body>404</body></html>");
  EXPECT_THAT(SafeTensors::open(folder_ / "x.safetensors").error().message, HasSubstr("it is a web page"));
  EXPECT_THAT(refusal(sound, 8, uint64_t{1} << 62), HasSubstr("not a safetensors file: its header would have"));
  EXPECT_THAT(refusal(sound, 8, 99'999'999), HasSubstr("does not fit in a file"));
  EXPECT_THAT(refusal("[]"), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal("{\"a\":"), HasSubstr("no valid JSON at its byte"));
  EXPECT_THAT(refusal(R"({"a":7})"), HasSubstr("tensor \"a\": a number stands where the header may not have it; the file is damaged"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2]}})"), HasSubstr("lacks dtype, shape or data_offsets"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"), HasSubstr("a negative number"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[1e3],"data_offsets":[0,8]}})"), HasSubstr("a fraction"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})"), HasSubstr("a list stands"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})"), HasSubstr("1 numbers instead of 2"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), HasSubstr("not inside"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), HasSubstr("type F32 and shape [3] cannot have 8 bytes"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})"), HasSubstr("cannot have 0 bytes"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})"), HasSubstr("field \"x\" is unknown"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"), HasSubstr("field \"dtype\" appears twice"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})"), HasSubstr("tensor \"a\": it appears twice"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6), HasSubstr("overlaps"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6), HasSubstr("leaves a hole"));
  EXPECT_THAT(refusal("{" + std::string(100'000, '[')), HasSubstr("no valid JSON"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":1}})"), HasSubstr("a number stands"));
  write("x.safetensors", "");
  EXPECT_THAT(SafeTensors::open(folder_ / "x.safetensors").error().message, HasSubstr("x.safetensors: the file is empty"));
}

TEST_F(SafeTensorsTest, AnUnsupportedTypeIsNoDamage) {
  const std::string said = refusal(R"({"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", 2);
  EXPECT_THAT(said, HasSubstr("tensor \"a\" has type \"F8_E4M3\", which is not supported; use a copy with BF16, F16 or F32 weights"));
  EXPECT_THAT(said, ::testing::Not(HasSubstr("damaged")));
}

TEST_F(SafeTensorsTest, WhatAnIndexPromisesMustBeThere) {
  EXPECT_THAT(folder_refusal(), HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
  write("pytorch_model.bin", "x");
  EXPECT_THAT(folder_refusal(), HasSubstr("may run code when it is read"));
  const auto index = [&](const std::string& map) {
    write("model.safetensors.index.json", R"({"weight_map":)" + map + "}");
    return folder_refusal();
  };
  EXPECT_THAT(index(R"({"a":"s.safetensors"})"), HasSubstr("shard s.safetensors, which model.safetensors.index.json names, is missing"));
  EXPECT_THAT(index(R"({"a":"../s.safetensors"})"), HasSubstr("a shard must be a file in the same directory"));
  EXPECT_THAT(index(R"({"a":7})"), HasSubstr("names no file"));
  EXPECT_THAT(index("{}"), HasSubstr("is empty"));
  EXPECT_THAT(index("7"), HasSubstr("has no \"weight_map\""));
  EXPECT_THAT(index("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(index(std::string(100'000, '[')), HasSubstr("nested more than"));
  const std::string one = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  write("s.safetensors", with_header(one, 1));
  EXPECT_EQ(index(R"({"a":"s.safetensors"})"), "accepted");
  EXPECT_THAT(index(R"({"a":"s.safetensors","b":"s.safetensors"})"), HasSubstr("tensor \"b\" should be in s.safetensors, but is not"));
  write("s.safetensors", with_header(one, 1).substr(0, 30));
  EXPECT_THAT(index(R"({"a":"s.safetensors"})"), HasSubstr("s.safetensors: a header of"));
}

TEST(SafeTensors, NothingThereIsSaid) {
  EXPECT_FALSE(SafeTensors::open("/nonexistent/model.safetensors"));
}

}  // namespace
}  // namespace deepseek::formats
