// BERT's tokenizer from a vocab.txt: what a tokenizer.json would say of it.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "formats/tokenizer/parts.h"

namespace deepseek::formats {
namespace {

using base::fail;
using base::Result;

// Others with a vocab.txt cut words by a dictionary or by byte pairs.
constexpr std::array kClasses{"", "BertTokenizer", "BertTokenizerFast"};

Json token_of(const std::string& content, const Json& vocab) {
  return {{"id", vocab.at(content)}, {"content", content}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json around(const std::string& cls, const std::string& sep, const Json& vocab) {
  const auto special = [](const std::string& id) { return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; };
  const auto entry = [&](const std::string& id) { return Json{{"id", id}, {"ids", Json::array({vocab.at(id)})}, {"tokens", Json::array({id})}}; };
  const Json first{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, second{{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(cls), first, special(sep)})},
          {"pair", Json::array({special(cls), first, special(sep), second, special(sep)})},
          {"special_tokens", {{cls, entry(cls)}, {sep, entry(sep)}}}};
}

Json read_lines(const std::string& text) {
  Json vocab = Json::object();
  int64_t id = 0;
  for (size_t at = 0; at < text.size(); ++id) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string token = text.substr(at, end - at);
    if (token.ends_with('\r')) token.pop_back();
    vocab[token] = id;
    at = end + 1;
  }
  return vocab;
}

}  // namespace

Result<Json> describe_vocab(const std::string& text, const Json& config) {
  const std::string kind = text_of(config, "tokenizer_class");
  if (std::find(kClasses.begin(), kClasses.end(), kind) == kClasses.end()) {
    return fail("a vocab.txt alone is read for BertTokenizer, this one is for {}; save a tokenizer.json once with Transformers", kind);
  }
  if (!base::is_utf8(text)) return fail("this vocabulary is not UTF-8");
  const Json vocab = read_lines(text);
  const auto named = [&](const char* key, const char* fallback) {
    const std::string name = named_token(config, key);
    return name.empty() ? std::string(fallback) : name;
  };
  const std::string unknown = named("unk_token", "[UNK]"), cls = named("cls_token", "[CLS]"), sep = named("sep_token", "[SEP]");
  for (const auto& name : {unknown, cls, sep}) {
    if (!vocab.contains(name)) return fail("the token {} is not in this vocabulary", name);
  }
  Json added = Json::array();
  for (const auto& name : {named("pad_token", "[PAD]"), unknown, cls, sep, named("mask_token", "[MASK]")}) {
    if (vocab.contains(name)) added.push_back(token_of(name, vocab));
  }
  const bool lower = flag_of(config, "do_lower_case", true);
  return Json{{"version", "1.0"},
              {"added_tokens", added},
              {"normalizer", {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", flag_of(config, "tokenize_chinese_chars", true)},
                              {"strip_accents", flag_of(config, "strip_accents", lower)}, {"lowercase", lower}}},
              {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
              {"post_processor", around(cls, sep, vocab)},
              {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
              {"model", {{"type", "WordPiece"}, {"unk_token", unknown}, {"continuing_subword_prefix", "##"}, {"max_input_chars_per_word", 100}, {"vocab", vocab}}}};
}

}  // namespace deepseek::formats
