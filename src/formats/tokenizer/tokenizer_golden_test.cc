// Ids and text of 10,000 strings of hostile Unicode against Hugging Face's tokenizers, for real tokenizers and for small
// ones that together use every component. The strings are drawn as tests/golden/tokenizer_golden.py draws them.
#include <gtest/gtest.h>
#include <unicode/uchar.h>

#include <cstdlib>
#include <cstring>

#include "base/json.h"
#include "base/random.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/unicode.h"
#include "formats/weights/gguf.h"

namespace deepseek::formats {
namespace {

namespace fs = base::fs;
using Json = nlohmann::ordered_json;
const fs::path kRoot = DEEPSEEK_SOURCE_DIR;
const fs::path kGolden = kRoot / "tests/golden/tokenizers";
constexpr size_t kCount = 10'000;

class Strings {
 public:
  explicit Strings(Json alphabet) : alphabet_(std::move(alphabet)), random_{alphabet_["seed"].get<uint64_t>()} {}
  std::string next() {
    std::string text;
    for (uint64_t left = between(1, 6); left > 0; --left) {
      text += part();
      if (below(2) != 0) text += " ";
    }
    return text;
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  std::string part() {
    const Json& rule = alphabet_["kinds"][below(alphabet_["kinds"].size())];
    const auto low = rule["count"][0].get<uint64_t>(), high = rule["count"][1].get<uint64_t>();
    std::string out;
    if (rule.contains("choose")) {
      const Json& texts = alphabet_[rule["choose"].get<std::string>()];
      for (uint64_t left = between(low, high); left > 0; --left) out += texts[below(texts.size())].get<std::string>();
    } else if (rule.contains("repeat")) {
      const Json& texts = alphabet_[rule["repeat"].get<std::string>()];
      const auto text = texts[below(texts.size())].get<std::string>();
      for (uint64_t left = between(low, high); left > 0; --left) out += text;
    } else {
      for (uint64_t left = between(low, high); left > 0; --left) {
        const Json& range = rule["ranges"][below(rule["ranges"].size())];
        append_utf8(out, character(between(range[0].get<uint64_t>(), range[1].get<uint64_t>())));
      }
    }
    return out;
  }
  // What Unicode 14 does not know, and what it maps in a new way, becomes U+FFFD.
  [[nodiscard]] char32_t character(uint64_t code) const {
    UVersionInfo age;
    u_charAge(static_cast<UChar32>(code), age);
    bool known = u_charType(static_cast<UChar32>(code)) != U_UNASSIGNED && age[0] <= 14 && (code < 0xD800 || code >= 0xE000);
    for (const auto& range : alphabet_["excluded"]) known = known && (code < range[0].get<uint64_t>() || code > range[1].get<uint64_t>());
    return known ? static_cast<char32_t>(code) : U'\uFFFD';
  }
  Json alphabet_;
  base::SplitMix64 random_;
};

uint32_t fnv(const void* data, size_t size) {
  uint32_t value = 0x811C9DC5u;
  for (size_t i = 0; i < size; ++i) value = (value ^ static_cast<const unsigned char*>(data)[i]) * 0x01000193u;
  return value;
}

std::string readable(const std::string& text) { return Json(text).dump(-1, ' ', true); }

void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  const auto golden = base::read_file(kGolden / (name + ".bin"));
  ASSERT_TRUE(golden) << golden.error().message;
  ASSERT_EQ(golden->size(), kCount * 8);
  Strings strings(*base::parse_json(*base::read_file(kGolden / "alphabet.json")));
  int wrong_ids = 0, wrong_text = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const std::string text = strings.next();
    const auto ids = tokenizer.encode(text);
    const std::string decoded = tokenizer.decode(ids);
    uint32_t expected[2];
    std::memcpy(expected, golden->data() + i * 8, 8);
    if (fnv(ids.data(), ids.size() * 4) != expected[0] && ++wrong_ids <= 5) {
      ADD_FAILURE() << "string " << i << " " << readable(text) << " gives " << Json(ids);
    } else if (fnv(decoded.data(), decoded.size()) != expected[1] && ++wrong_text <= 5) {
      ADD_FAILURE() << "string " << i << " " << readable(text) << " comes back as " << readable(decoded);
    }
  }
  EXPECT_EQ(wrong_ids, 0);
  EXPECT_EQ(wrong_text, 0);
}

class Small : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Golden, Small,
                         ::testing::Values("small-llama", "small-roberta", "small-unigram", "small-metaspace", "small-bert", "small-words", "small-suffix"));

TEST_P(Small, EqualsHuggingFace) {
  const auto tokenizer = Tokenizer::open(kGolden / (std::string(GetParam()) + ".json"));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_golden(*tokenizer, GetParam());
}

TEST(Vocabulary, AloneEqualsTransformers) {
  const auto tokenizer = Tokenizer::open(kGolden / "small-vocab");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_golden(*tokenizer, "small-vocab");
}

class Real : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Golden, Real, ::testing::Values("deepseek", "qwen", "anthropic", "minilm"));

TEST_P(Real, EqualsHuggingFace) {
  const fs::path directory = kRoot / ".cache/tokenizers" / GetParam();
  if (!fs::exists(directory)) GTEST_SKIP() << "not on this machine: tools/fetch_tokenizers";
  const auto tokenizer = Tokenizer::open(directory);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_golden(*tokenizer, GetParam());
}

TEST(Gemma, FromGgufEqualsHuggingFaceAlsoThroughItsOwnJson) {
  const char* named = std::getenv("DEEPSEEK_GEMMA");
  const fs::path path = named != nullptr ? fs::path(named) : base::cache_directory() / "models/gemma-3-270m/gemma-3-270m-q4_k_m.gguf";
  if (!fs::exists(path)) GTEST_SKIP() << "not on this machine: deepseek-cli pull gemma-3-270m";
  const auto gguf = Gguf::open(path);
  ASSERT_TRUE(gguf) << gguf.error().message;
  const auto tokenizer = Tokenizer::from_gguf(*gguf);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocabulary_size(), 262144u);
  EXPECT_EQ(tokenizer->bos_id(), 2);
  EXPECT_EQ(tokenizer->eos_id(), 1);
  expect_golden(*tokenizer, "gemma");
  const auto again = Tokenizer::parse(tokenizer->to_json());
  ASSERT_TRUE(again) << again.error().message;
  expect_golden(*again, "gemma");
}

}  // namespace
}  // namespace deepseek::formats
