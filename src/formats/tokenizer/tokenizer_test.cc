// Tokenizers: special tokens, streams of text, and descriptions that are broken or hostile.
#include "formats/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/text.h"

namespace deepseek::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
const base::fs::path kGolden = DEEPSEEK_SOURCE_DIR "/tests/golden/tokenizers";

Tokenizer open(const char* name) {
  auto tokenizer = Tokenizer::open(kGolden / name);
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
  return std::move(*tokenizer);
}

TEST(Tokenizer, SpecialTokensAreRecognisedUnlessTheTextIsAUsers) {
  const Tokenizer tokenizer = open("small-llama.json");
  const auto bos = tokenizer.bos_id(), eos = tokenizer.eos_id();
  ASSERT_TRUE(bos && eos);
  EXPECT_EQ(tokenizer.token(*bos), "<s>");
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(*bos));
  EXPECT_TRUE(tokenizer.encode("", false).empty());
  const auto special = tokenizer.encode("a</s>", false), plain = tokenizer.encode_plain("a</s>");
  EXPECT_EQ(special.back(), *eos);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), *eos), 0);
  EXPECT_EQ(tokenizer.decode(plain), "a</s>");
  EXPECT_EQ(tokenizer.decode(special), "a");
  EXPECT_EQ(tokenizer.decode(special, false), "a</s>");
  EXPECT_TRUE(tokenizer.is_special(*eos));
  EXPECT_FALSE(tokenizer.is_special(-5));
  EXPECT_EQ(tokenizer.token(99'999'999), "");
  EXPECT_EQ(tokenizer.decode({-1, 99'999'999}), "");
}

TEST(Tokenizer, IllFormedTextBecomesReplacementCharacters) {
  const Tokenizer tokenizer = open("small-llama.json");
  EXPECT_EQ(tokenizer.encode("a\xFF" "b"), tokenizer.encode("a\uFFFD" "b"));
  EXPECT_EQ(tokenizer.encode("\xED\xA0\x80"), tokenizer.encode("\uFFFD\uFFFD\uFFFD"));
}

TEST(Tokenizer, ALongRunWithoutBordersIsNotQuadratic) {
  const Tokenizer tokenizer = open("small-llama.json");
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += static_cast<char>('a' + i * 7 % 26);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(StreamDecoder, GivesWholeCharactersAndAllOfTheText) {
  for (const char* name : {"small-llama.json", "small-roberta.json"}) {
    const Tokenizer tokenizer = open(name);
    const std::string text = "Zinsen 利率 👩\u200d👩\u200d👧 naïve \n end";
    const auto ids = tokenizer.encode(text, false);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      EXPECT_TRUE(base::is_utf8(piece));
      streamed += piece;
    }
    streamed += stream.finish();
    EXPECT_EQ(streamed, tokenizer.decode(ids)) << name;
  }
}

std::string refusal(const std::string& json) {
  auto tokenizer = Tokenizer::parse(json);
  return tokenizer ? "accepted" : tokenizer.error().message;
}

std::string with_model(const std::string& model, const std::string& rest = "") { return R"({"model":)" + model + rest + "}"; }

TEST(Tokenizer, BrokenDescriptionsGiveOneSentence) {
  EXPECT_THAT(refusal(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("JSON object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("has no model"));
  EXPECT_THAT(refusal(with_model(R"({"type":"Magic"})")), HasSubstr("the model 'Magic' is not known"));
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","merges":[]})")), HasSubstr("no vocab"));
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})")), HasSubstr("no sensible id"));
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","vocab":{"a":4000000000},"merges":[]})")), HasSubstr("no sensible id"));
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","vocab":{"a":0},"merges":["a b"]})")), HasSubstr("not in the vocabulary"));
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","vocab":{"a":0},"merges":[7]})")), HasSubstr("a merge is neither"));
  EXPECT_THAT(refusal(with_model(R"({"type":"Unigram","vocab":[["a"]]})")), HasSubstr("is not [text, score]"));
  EXPECT_THAT(refusal(with_model(R"({"type":"Unigram","unk_id":9,"vocab":[["a",-1]]})")), HasSubstr("unk_id 9"));
  const std::string sound = R"({"type":"WordLevel","vocab":{"a":0},"unk_token":"a"})";
  EXPECT_EQ(refusal(with_model(sound)), "accepted");
  EXPECT_THAT(refusal(with_model(sound, R"(,"normalizer":{"type":"Strange"})")), HasSubstr("the normalizer 'Strange'"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"pre_tokenizer":{"type":"Strange"})")), HasSubstr("the pre-tokenizer 'Strange'"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"decoder":{"type":"Strange"})")), HasSubstr("the decoder 'Strange'"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"post_processor":{"type":"Strange"})")), HasSubstr("the post-processor 'Strange'"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"post_processor":{"type":"BertProcessing"})")), HasSubstr("description is broken"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"added_tokens":[{"content":"x"}])")), HasSubstr("no sensible id"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(("},"behavior":"Isolated"})")), HasSubstr("is wrong at character"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"////////"})")), HasSubstr("shorter than it says"));
  EXPECT_THAT(refusal(std::string(100'000, '[')), HasSubstr("nested more than"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"normalizer":{"type":"Replace","pattern":{},"content":"x"})")), HasSubstr("neither a String nor a Regex"));
}

TEST(Tokenizer, HostileDescriptionsAreRefused) {
  const std::string sound = R"({"type":"WordLevel","vocab":{"a":0},"unk_token":"a"})";
  EXPECT_THAT(refusal(with_model(R"({"type":"BPE","vocab":{"a":16777215},"merges":[]})")), HasSubstr("no sensible id"));  // a table of 16 million spellings
  EXPECT_THAT(refusal(with_model(sound, R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\C"},"behavior":"Isolated"})")), HasSubstr("is wrong at character"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"post_processor":{"type":"BertProcessing","cls":["a",0],"sep":["b",7]})")), HasSubstr("adds the token 7, but the vocabulary has 1"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"added_tokens":[{"id":1,"content":")" + std::string(2000, 'a') + R"("}])")), HasSubstr("2000 bytes, more than 1024"));
  EXPECT_THAT(refusal(with_model(R"({"type":"Unigram","unk_id":0,"vocab":[[")" + std::string(2000, 'a') + R"(",-1]]})")), HasSubstr("more than 1024 bytes"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAD/")" "}")), HasSubstr("not UTF-8"));
  std::string chain;
  for (int i = 0; i < 40; ++i) chain += std::string(i > 0 ? "," : "") + R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  EXPECT_THAT(refusal(with_model(sound, R"(,"normalizer":{"type":"Sequence","normalizers":[)" + chain + "]}")), HasSubstr("times longer"));
  EXPECT_THAT(refusal(with_model(sound, R"(,"decoder":{"type":"Sequence","decoders":[)" + chain + "]}")), HasSubstr("times longer"));
  std::string ids = "0";
  for (int i = 0; i < 600; ++i) ids += ",0";
  const std::string special = R"({"SpecialToken":{"id":"a","type_id":0}})";
  EXPECT_THAT(refusal(with_model(sound, R"(,"post_processor":{"type":"TemplateProcessing","single":[)" + special + "," + special + R"(],"special_tokens":{"a":{"id":"a","ids":[)" + ids + "]}}}")),
              HasSubstr("more than 1024 tokens around"));
}

// Each of these took time that grows with the square of the text, or its cube.
TEST(Tokenizer, HostileTextsAreNotQuadratic) {
  const std::string blanks(300'000, ' '), letters(20'000, 'a'), word(1000, 'a');
  const auto encoded = [](const std::string& json, const std::string& text) {
    auto tokenizer = Tokenizer::parse(json);
    EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
    return tokenizer ? tokenizer->encode(text).size() : 0;
  };
  EXPECT_EQ(encoded(with_model(R"({"type":"WordLevel","vocab":{"a":0}})", R"(,"added_tokens":[{"id":1,"content":" ","lstrip":true}])"), blanks), blanks.size());
  EXPECT_EQ(encoded(with_model(R"({"type":"Unigram","unk_id":0,"vocab":[["u",0],["a",-2],[")" + word + R"(",-1]]})"), letters), 20u);
  EXPECT_EQ(encoded(with_model(R"({"type":"WordPiece","max_input_chars_per_word":1000000,"vocab":{"[UNK]":0,"a":1,"##a":2,"##)" + word + R"(":3}})"), letters), 1u + 19u + 999u);
  auto fused = Tokenizer::parse(with_model(R"({"type":"WordLevel","vocab":{"a-":0}})", R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":"a-"},"behavior":"Isolated"},
    "decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace","pattern":{"String":"-"},"content":"--"},{"type":"Strip","content":"a","start":1000000,"stop":0}]})"));
  ASSERT_TRUE(fused) << fused.error().message;
  EXPECT_EQ(fused->decode(std::vector<int32_t>(200'000, 0)).size(), 600'000u - 1);
}

TEST(StreamDecoder, TokensThatAreNoTextDoNotPileUp) {
  const auto tokenizer = Tokenizer::parse(with_model(R"({"type":"BPE","vocab":{"\u00ff":0},"merges":[]})", R"(,"decoder":{"type":"ByteLevel"})"));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  StreamDecoder stream(*tokenizer);
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += stream.push(0);
  text += stream.finish();
  EXPECT_EQ(text, tokenizer->decode(std::vector<int32_t>(20'000, 0)));
}

TEST(Tokenizer, AHostileExpressionEnds) {
  const auto tokenizer = Tokenizer::parse(with_model(R"({"type":"WordLevel","vocab":{"a":0},"unk_token":"a"})",
                                                     R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated"})"));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_FALSE(tokenizer->encode(std::string(5'000, 'a') + "b").empty());
}

TEST(Tokenizer, TruncationCutsTheTextAndKeepsWhatStandsAroundIt) {
  const Tokenizer tokenizer = open("small-bert.json");
  const auto whole = tokenizer.encode("the rate of return");
  ASSERT_GT(whole.size(), 5u);
  EXPECT_EQ(tokenizer.encode_truncated("the rate of return", whole.size()), whole);
  EXPECT_THAT(tokenizer.encode_truncated("the rate of return", 4), ElementsAre(whole[0], whole[1], whole[2], whole.back()));
  EXPECT_THAT(tokenizer.encode_truncated("the rate of return", 1), ElementsAre(whole[0], whole.back()));
}

// A directory with a vocab.txt and this tokenizer_config.json.
std::string vocab_refusal(const std::string& vocab, const std::string& config) {
  const auto folder = base::fs::temp_directory_path() / ("deepseek-vocab-" + std::to_string(::getpid()));
  base::fs::create_directories(folder);
  std::ofstream(folder / "vocab.txt") << vocab;
  std::ofstream(folder / "tokenizer_config.json") << config;
  auto tokenizer = Tokenizer::open(folder);
  base::fs::remove_all(folder);
  return tokenizer ? "accepted" : tokenizer.error().message;
}

TEST(Tokenizer, AVocabularyAloneMustBeBerts) {
  const std::string vocab = "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n";
  EXPECT_EQ(vocab_refusal(vocab, "{}"), "accepted");
  EXPECT_EQ(vocab_refusal(vocab, R"({"cls_token": {"content": "a"}})"), "accepted");
  EXPECT_THAT(vocab_refusal(vocab, R"({"tokenizer_class": "BertJapaneseTokenizer"})"), HasSubstr("this one is for BertJapaneseTokenizer"));
  EXPECT_THAT(vocab_refusal(vocab, R"({"cls_token": "<s>"})"), HasSubstr("the token <s> is not in this vocabulary"));
  EXPECT_THAT(vocab_refusal("", "{}"), HasSubstr("the token [UNK] is not in this vocabulary"));
  EXPECT_THAT(vocab_refusal("\xFF\n" + vocab, "{}"), HasSubstr("not UTF-8"));
  EXPECT_THAT(vocab_refusal(vocab, "[]"), HasSubstr("is no JSON object"));
}

TEST(Tokenizer, ADirectoryWithoutOneSaysSo) {
  auto tokenizer = Tokenizer::open(DEEPSEEK_SOURCE_DIR);
  ASSERT_FALSE(tokenizer);
  EXPECT_THAT(tokenizer.error().message, HasSubstr("has no tokenizer.json"));
}

}  // namespace
}  // namespace deepseek::formats
