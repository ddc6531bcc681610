// Tokenizers from GGUF metadata, as the tokenizer.json that Transformers would build from it.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "formats/tokenizer/parts.h"
#include "formats/weights/gguf.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;

struct Stored {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int64_t> types;
  std::string kind, pre;
  int32_t bos, eos, unknown, pad;
  bool add_bos, add_eos, add_space_prefix;
};

Result<Stored> read(const Gguf& gguf) {
  Stored out;
  const auto* tokens = gguf.array("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->strings.empty()) return fail("the GGUF file holds no tokenizer (tokenizer.ggml.tokens)");
  // Everything after this point reads characters without looking for broken ones.
  out.tokens.reserve(tokens->strings.size());
  for (const auto& token : tokens->strings) out.tokens.push_back(base::to_valid_utf8(token));
  if (const auto* scores = gguf.array("tokenizer.ggml.scores"); scores != nullptr) out.scores.assign(scores->floats.begin(), scores->floats.end());
  if (const auto* types = gguf.array("tokenizer.ggml.token_type"); types != nullptr) out.types = types->integers;
  out.scores.resize(out.tokens.size(), 0.0f);
  for (size_t i = 0; i < out.scores.size(); ++i) {
    if (!std::isfinite(out.scores[i])) return fail("the score of token {} is not finite (tokenizer.ggml.scores); the file is damaged", i);
  }
  out.types.resize(out.tokens.size(), kNormal);
  out.kind = gguf.text("tokenizer.ggml.model");
  out.pre = gguf.text("tokenizer.ggml.pre", "default");
  const auto id = [&](const char* key) {
    const int64_t value = gguf.integer(key, -1);
    return value >= 0 && value < static_cast<int64_t>(out.tokens.size()) ? static_cast<int32_t>(value) : -1;
  };
  out.bos = id("tokenizer.ggml.bos_token_id");
  out.eos = id("tokenizer.ggml.eos_token_id");
  out.unknown = id("tokenizer.ggml.unknown_token_id");
  out.pad = id("tokenizer.ggml.padding_token_id");
  out.add_bos = gguf.boolean("tokenizer.ggml.add_bos_token", out.kind == "llama");
  out.add_eos = gguf.boolean("tokenizer.ggml.add_eos_token", false);
  out.add_space_prefix = gguf.boolean("tokenizer.ggml.add_space_prefix", true);
  return out;
}

std::vector<AddedToken> added_tokens(const Stored& stored) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < stored.tokens.size(); ++i) {
    const int64_t type = stored.types[i];
    if ((type != kControl && type != kUserDefined && type != kUnknown) || stored.tokens[i].empty()) continue;
    added.push_back({.content = stored.tokens[i], .id = static_cast<int32_t>(i), .special = type != kUserDefined});
  }
  return added;
}

Json described(const std::vector<AddedToken>& added) {
  Json list = Json::array();
  for (const auto& token : added) {
    list.push_back({{"id", token.id}, {"content", token.content}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"special", token.special}});
  }
  return list;
}

Json around(const Stored& stored) {
  Json single = Json::array(), special = Json::object();
  const auto add = [&](int32_t id) {
    const std::string& name = stored.tokens[static_cast<size_t>(id)];
    single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
    special[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  if (stored.add_bos && stored.bos >= 0) add(stored.bos);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (stored.add_eos && stored.eos >= 0) add(stored.eos);
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 0}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

Json described(const Stored& stored, Json normalizer, Json pre_tokenizer, Json decoder) {
  return {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", Json::array()}, {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", std::move(pre_tokenizer)}, {"post_processor", around(stored)}, {"decoder", std::move(decoder)}};
}

Json replace(const std::string& what, const std::string& by) { return {{"type", "Replace"}, {"pattern", {{"String", what}}}, {"content", by}}; }

Json sentencepiece_description(const Stored& stored) {
  Json normalizer = replace(" ", "\u2581");
  Json decoders = Json::array({replace("\u2581", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (stored.add_space_prefix) {
    normalizer = {{"type", "Sequence"}, {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", "\u2581"}}, normalizer})}};
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return described(stored, normalizer, nullptr, {{"type", "Sequence"}, {"decoders", decoders}});
}

Vocabulary vocabulary_of(const Stored& stored) {
  Vocabulary vocabulary;
  vocabulary.reserve(stored.tokens.size());
  for (size_t i = 0; i < stored.tokens.size(); ++i) vocabulary.add(stored.tokens[i], static_cast<int32_t>(i));
  return vocabulary;
}

Json vocab_json(const Stored& stored) {
  Json vocab = Json::object();
  for (size_t i = 0; i < stored.tokens.size(); ++i) vocab[stored.tokens[i]] = i;
  return vocab;
}

Result<std::unique_ptr<Tokenizer::Parts>> sentencepiece(std::shared_ptr<Stored> stored) {
  Json shell = sentencepiece_description(*stored);
  shell["model"] = {{"type", "WordLevel"}, {"vocab", Json::object()}};
  auto parts = make_parts(shell);
  if (!parts) return parts;
  // Thousands of tokens (Gemma's) go in as they are: as JSON they took a third of the time to load.
  for (auto& token : added_tokens(*stored)) {
    if (token.content.size() > kLongestToken) return fail("the added token {} has {} bytes, more than {}", token.id, token.content.size(), kLongestToken);
    (*parts)->add(std::move(token));
  }
  (*parts)->model = make_scored_bpe(vocabulary_of(*stored), stored->scores, stored->unknown);
  (*parts)->write = [stored] {
    Json json = sentencepiece_description(*stored);
    json["added_tokens"] = described(added_tokens(*stored));
    std::vector<bool> skipped(stored->tokens.size());
    for (size_t i = 0; i < skipped.size(); ++i) skipped[i] = stored->types[i] == kControl || stored->types[i] == kUnknown || stored->types[i] == kByte;
    Json merges = Json::array();
    for (const auto& [left, right] : derived_merges(vocabulary_of(*stored), stored->scores, skipped)) merges.push_back({left, right});
    json["model"] = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", stored->unknown >= 0 ? Json(stored->tokens[static_cast<size_t>(stored->unknown)]) : Json(nullptr)},
                     {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr}, {"fuse_unk", true}, {"byte_fallback", true}, {"ignore_merges", false},
                     {"vocab", vocab_json(*stored)}, {"merges", merges}};
    return json.dump();
  };
  return parts;
}

Result<std::unique_ptr<Tokenizer::Parts>> byte_level(const Gguf& gguf, const Stored& stored) {
  auto split = gguf_pre_tokenizer(stored.pre);
  if (!split) return base::pass(split);
  const auto* merges = gguf.array("tokenizer.ggml.merges");
  if (merges == nullptr) return fail("the GGUF file holds no merges (tokenizer.ggml.merges)");
  Json json = described(stored, stored.pre == "qwen2" ? Json{{"type", "NFC"}} : Json(nullptr), *split,
                        {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}});
  json["added_tokens"] = described(added_tokens(stored));
  json["model"] = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr}, {"fuse_unk", false},
                   {"byte_fallback", false}, {"ignore_merges", stored.pre.starts_with("llama")}, {"vocab", vocab_json(stored)}, {"merges", merges->strings}};
  auto parts = make_parts(json);
  if (parts) (*parts)->source = json.dump();
  return parts;
}

// GGUF marks the beginnings of words; BERT's files mark what continues them.
Result<std::unique_ptr<Tokenizer::Parts>> bert(Stored stored) {
  for (size_t i = 0; i < stored.tokens.size(); ++i) {
    auto& token = stored.tokens[i];
    if (stored.types[i] == kControl || stored.types[i] == kUnknown || token.starts_with('[')) continue;
    token = token.starts_with("\u2581") ? token.substr(3) : "##" + token;
  }
  stored.add_bos = stored.add_eos = true;
  const auto named = [&](const char* name, int32_t& id) {
    if (id >= 0) return;
    const auto found = std::find(stored.tokens.begin(), stored.tokens.end(), name);
    if (found != stored.tokens.end()) id = static_cast<int32_t>(found - stored.tokens.begin());
  };
  named("[CLS]", stored.bos);
  named("[SEP]", stored.eos);
  Json json = described(stored, {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"strip_accents", nullptr}, {"lowercase", true}},
                        {{"type", "BertPreTokenizer"}}, {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}});
  json["added_tokens"] = described(added_tokens(stored));
  json["model"] = {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"continuing_subword_prefix", "##"}, {"max_input_chars_per_word", 100}, {"vocab", vocab_json(stored)}};
  auto parts = make_parts(json);
  if (parts) (*parts)->source = json.dump();
  return parts;
}

}  // namespace

// The expressions that llama.cpp's names stand for.
Result<Json> gguf_pre_tokenizer(const std::string& pre) {
  const auto split = [](const char* regex) { return Json{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}}; };
  const Json bytes{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const auto sequence = [&](std::vector<Json> parts) {
    parts.push_back(bytes);
    return Json{{"type", "Sequence"}, {"pretokenizers", parts}};
  };
  if (pre == "default" || pre == "gpt-2") return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" || pre == "smaug-bpe") {
    return sequence({split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")});
  }
  if (pre == "qwen2" || pre == "deepseek-r1-qwen") {
    return sequence({split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")});
  }
  if (pre == "deepseek-v3") {
    return sequence({split(R"(\p{N}{1,3})"), split("[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"),
                     split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")});
  }
  if (pre == "deepseek-llm" || pre == "deepseek-coder") {
    const char* han_and_hangul = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+";
    if (pre == "deepseek-coder") {
      return sequence({split("[\r\n]"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"), split(han_and_hangul), split(R"(\p{N})")});
    }
    // The model's own file lists the letters that have a case, as of a Unicode without case in Georgian's Mkhedruli.
    return sequence({split("[\r\n]"), split(R"(\s?(?:(?![\x{10D0}-\x{10FF}])[\p{Lu}\p{Ll}\p{Lt}])+)"),
                     split("\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+"), split(R"(\s+$)"), split(han_and_hangul),
                     split(R"(\p{N}+)")});
  }
  return fail("the GGUF pre-tokenizer '{}' is not supported; use the model's Hugging Face directory, which has a tokenizer.json", pre);
}

Result<Tokenizer> Tokenizer::from_gguf(const Gguf& gguf) {
  auto stored = read(gguf);
  if (!stored) return base::pass(stored);
  const std::string kind = stored->kind;
  const auto bos = stored->bos, eos = stored->eos, pad = stored->pad;
  Result<std::unique_ptr<Parts>> parts = fail("the GGUF tokenizer '{}' is not supported; supported are llama, gpt2 and bert", kind);
  try {
    if (kind == "llama") parts = sentencepiece(std::make_shared<Stored>(std::move(*stored)));
    if (kind == "gpt2") parts = byte_level(gguf, *stored);
    if (kind == "bert") parts = bert(std::move(*stored));
  } catch (const nlohmann::json::exception& error) {
    return fail("the GGUF file's tokenizer is broken: {}", error.what());
  }
  if (!parts) return base::pass(parts);
  const auto known = [](int32_t id) { return id >= 0 ? std::optional(id) : std::nullopt; };
  (*parts)->bos = known(bos);
  (*parts)->eos = known(eos);
  (*parts)->pad = known(pad);
  return Tokenizer(std::move(*parts));
}

}  // namespace deepseek::formats
