// GGUF: what is read of a sound file of both versions, and one sentence for each way to be broken.
#include "formats/weights/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "formats/tokenizer/tokenizer.h"

namespace deepseek::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Little-endian values one after another.
struct Bytes : std::string {
  template <typename T>
  Bytes& put(T value) {
    append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    put(uint64_t{value.size()});
    append(value);
    return *this;
  }
  Bytes& entry(const std::string& key, uint32_t type) { return text(key).put(type); }
};

struct Tensor {
  std::string name = "t";
  std::vector<uint64_t> shape{2, 2};  // GGUF's order, innermost first
  uint32_t type = 0;
  uint64_t offset = 0;
};

constexpr uint32_t kU32 = 4, kF32 = 6, kString = 8, kArray = 9, kU8 = 0;

std::string file(const std::vector<Bytes>& metadata, const std::vector<Tensor>& tensors, const std::string& data, uint32_t version = 3) {
  Bytes out;
  out.append("GGUF");
  out.put(version).put(uint64_t{tensors.size()}).put(uint64_t{metadata.size()});
  for (const auto& entry : metadata) out.append(entry);
  for (const auto& tensor : tensors) {
    out.text(tensor.name).put(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) out.put(size);
    out.put(tensor.type).put(tensor.offset);
  }
  out.resize((out.size() + 31) / 32 * 32);
  return out + data;
}

base::Result<Gguf> open(const std::string& content) {
  const auto path = base::fs::temp_directory_path() / ("deepseek-gguf-test-" + std::to_string(::getpid()) + ".gguf");
  EXPECT_TRUE(base::write_file_atomically(path, content));
  auto gguf = Gguf::open(path);
  base::fs::remove(path);  // the map stays
  return gguf;
}

std::string refusal(const std::string& content) {
  const auto gguf = open(content);
  return gguf ? "accepted" : gguf.error().message;
}

std::string floats(std::initializer_list<float> values) {
  Bytes out;
  for (const float value : values) out.put(value);
  return out;
}

TEST(Gguf, BothVersionsGiveMetadataAndTensors) {
  for (const uint32_t version : {2u, 3u}) {
    Bytes numbers;
    numbers.entry("list", kArray).put(kU8).put(uint64_t{3}).append("\1\2\3");
    const auto gguf = open(file({Bytes().entry("name", kString).text("llama"), Bytes().entry("layers", kU32).put(7u), Bytes().entry("eps", kF32).put(0.5f), numbers},
                                {Tensor{"a", {3, 1}}, Tensor{"b", {1}, 0, 32}}, floats({1, 2, 3, 0, 0, 0, 0, 0, 4}), version));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ(gguf->text("name"), "llama");
    EXPECT_EQ(gguf->integer("layers", 0), 7);
    EXPECT_EQ(gguf->number("eps", 0), 0.5);
    EXPECT_EQ(gguf->number("layers", 0), 7.0);
    EXPECT_EQ(gguf->integer("name", -1), -1);
    ASSERT_NE(gguf->array("list"), nullptr);
    EXPECT_THAT(gguf->array("list")->integers, ::testing::ElementsAre(1, 2, 3));
    ASSERT_NE(gguf->find("a"), nullptr);
    EXPECT_THAT(gguf->find("a")->shape, ::testing::ElementsAre(1, 3));  // row-major
    std::vector<float> values(3);
    ASSERT_TRUE(dequantize(*gguf->find("a"), values));
    EXPECT_THAT(values, ::testing::ElementsAre(1, 2, 3));
    EXPECT_EQ(gguf->find("c"), nullptr);
  }
}

TEST(Gguf, BrokenHeadersGiveOneSentence) {
  EXPECT_THAT(refusal(""), HasSubstr("the file is empty"));
  EXPECT_THAT(refusal("GGUF"), HasSubstr("incomplete"));
  EXPECT_THAT(refusal(std::string(64, 'x')), HasSubstr("not a GGUF file"));
  EXPECT_THAT(refusal(file({}, {}, "", 1)), HasSubstr("version 1 is not supported"));
  Bytes many;
  many.append("GGUF");
  EXPECT_THAT(refusal(many.put(3u).put(uint64_t{1} << 60).put(uint64_t{0})), HasSubstr("more than 24 bytes can hold"));
  EXPECT_THAT(refusal(file({Bytes().entry("k", 99)}, {}, "")), HasSubstr("unknown value type 99"));
  EXPECT_THAT(refusal(file({Bytes().entry("k", kString).put(~uint64_t{0})}, {}, "")), HasSubstr("claims 18446744073709551615 bytes"));
  EXPECT_THAT(refusal(file({Bytes().entry("k", kArray).put(kU32).put(uint64_t{1} << 40)}, {}, "")), HasSubstr("claims 1099511627776 elements"));
  EXPECT_THAT(refusal(file({Bytes().entry("k", kArray).put(kString).put(uint64_t{1} << 20)}, {}, "")), HasSubstr("claims 1048576 strings"));
  Bytes nested;
  nested.entry("k", kArray);
  for (int i = 0; i < 9; ++i) nested.put(kArray).put(uint64_t{1});
  EXPECT_THAT(refusal(file({nested}, {}, "")), HasSubstr("nested more than"));
  EXPECT_THAT(refusal(file({Bytes().entry("k", kU32).put(1u), Bytes().entry("k", kU32).put(1u)}, {}, "")), HasSubstr("appears twice"));
  EXPECT_THAT(refusal(file({Bytes().entry("general.alignment", kU32).put(3u)}, {}, "")), HasSubstr("no power of two"));
  EXPECT_THAT(refusal(file({Bytes().entry("split.count", kU32).put(2u)}, {}, "")), HasSubstr("llama-gguf-split --merge"));
}

TEST(Gguf, BrokenTensorsAreNamed) {
  const std::string data = floats({1, 2, 3, 4});
  EXPECT_EQ(refusal(file({}, {Tensor{}}, data)), "accepted");
  EXPECT_THAT(refusal(file({}, {Tensor{"w"}}, data.substr(0, 15))), HasSubstr("tensor \"w\" needs 16 bytes at offset 0, but the file has 15"));
  EXPECT_THAT(refusal(file({}, {Tensor{.offset = ~uint64_t{31}}}, data)), HasSubstr("incomplete or damaged"));
  EXPECT_THAT(refusal(file({}, {Tensor{.offset = 4}}, data)), HasSubstr("not aligned"));
  EXPECT_THAT(refusal(file({}, {Tensor{.shape = {~uint64_t{0}, 2}}}, data)), HasSubstr("has a dimension of"));
  EXPECT_THAT(refusal(file({}, {Tensor{.shape = {uint64_t{1} << 40, uint64_t{1} << 40}}}, data)), HasSubstr("cannot have shape"));
  EXPECT_THAT(refusal(file({}, {Tensor{.shape = {1, 1, 1, 1, 1}}}, data)), HasSubstr("has 5 dimensions"));
  EXPECT_THAT(refusal(file({}, {Tensor{.shape = {33}, .type = 2}}, data)), HasSubstr("cannot have shape [33]"));
  EXPECT_THAT(refusal(file({}, {Tensor{.type = 23}}, data)), HasSubstr("has type IQ4_XS, which is not supported; use"));
  EXPECT_THAT(refusal(file({}, {Tensor{.type = 77}}, data)), HasSubstr("unknown type 77"));
  EXPECT_THAT(refusal(file({}, {Tensor{}, Tensor{}}, data)), HasSubstr("appears twice"));
  EXPECT_THAT(refusal(file({}, {Tensor{"a"}, Tensor{"b"}}, data)), HasSubstr("overlap"));
  EXPECT_THAT(refusal(file({}, {Tensor{std::string("\xFF\n", 2), {9}}}, data)), HasSubstr("\"\uFFFD?\""));
}

TEST(Gguf, EveryCutIsRefusedOrHarmless) {
  const std::string whole = file({Bytes().entry("name", kString).text("llama")}, {Tensor{}}, floats({1, 2, 3, 4}));
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
}

// A small vocabulary in SentencePiece's manner.
std::string with_tokens(const std::vector<std::string>& tokens, float first_score) {
  Bytes list, scores;
  list.entry("tokenizer.ggml.tokens", kArray).put(kString).put(uint64_t{tokens.size()});
  for (const auto& token : tokens) list.text(token);
  scores.entry("tokenizer.ggml.scores", kArray).put(kF32).put(uint64_t{tokens.size()}).put(first_score);
  for (size_t i = 1; i < tokens.size(); ++i) scores.put(-static_cast<float>(i));
  return file({Bytes().entry("tokenizer.ggml.model", kString).text("llama"), list, scores}, {}, "");
}

TEST(Gguf, ABrokenTokenizerIsRefusedOrMended) {
  const auto nan = open(with_tokens({"a", "b"}, std::nanf("")));
  ASSERT_TRUE(nan);
  EXPECT_THAT(Tokenizer::from_gguf(*nan).error().message, HasSubstr("the score of token 0 is not finite"));
  const auto odd = open(with_tokens({"a", "\xE2\x96", "b", "ab"}, 0));
  ASSERT_TRUE(odd);
  const auto tokenizer = Tokenizer::from_gguf(*odd);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_TRUE(Tokenizer::parse(tokenizer->to_json()));
  EXPECT_THAT(Tokenizer::from_gguf(*open(file({}, {}, ""))).error().message, HasSubstr("holds no tokenizer"));
}

// How DeepSeek's GGUF files cut a text: each newline and, for the coder, each digit stands alone, whatever merges exist.
TEST(Gguf, DeepSeeksOwnWaysToCutAText) {
  const std::string newline = "\u010A", space = "\u0120";
  const std::vector<std::string> tokens{"a", "b", "1", "2", newline, space, "ab", "12", newline + newline, space + "a"};
  const std::vector<std::string> merges{"a b", "1 2", newline + " " + newline, space + " a"};
  const auto ids = [&](const std::string& pre, const std::string& text) {
    Bytes list, joined;
    list.entry("tokenizer.ggml.tokens", kArray).put(kString).put(uint64_t{tokens.size()});
    for (const auto& token : tokens) list.text(token);
    joined.entry("tokenizer.ggml.merges", kArray).put(kString).put(uint64_t{merges.size()});
    for (const auto& merge : merges) joined.text(merge);
    const auto gguf = open(file({Bytes().entry("tokenizer.ggml.model", kString).text("gpt2"), Bytes().entry("tokenizer.ggml.pre", kString).text(pre),
                                 list, joined}, {}, ""));
    const auto tokenizer = Tokenizer::from_gguf(*gguf);
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return tokenizer->encode(text, false);
  };
  EXPECT_THAT(ids("deepseek-llm", "ab a12\n\n"), ElementsAre(6, 9, 7, 4, 4));
  EXPECT_THAT(ids("deepseek-coder", "ab a12\n\n"), ElementsAre(6, 9, 2, 3, 4, 4));
  EXPECT_THAT(ids("gpt-2", "ab\n\n"), ElementsAre(6, 8));
}

}  // namespace
}  // namespace deepseek::formats
