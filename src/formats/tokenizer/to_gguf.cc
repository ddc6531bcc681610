// A tokenizer as GGUF metadata: the way back from from_gguf.cc.
#include <algorithm>

#include "formats/tokenizer/parts.h"
#include "formats/weights/gguf_write.h"

namespace deepseek::formats {
namespace {

using base::fail;

// A text in which every known way to split shows itself: digits, contractions, scripts, marks, spaces, line ends, punctuation.
constexpr const char* kProbe =
    "I'll say 'We'RE 1234567 times'  \n\n\t for x_y=z+1; // \u4F60\u597D\u4E16\u754C\uFF0C2024\u5E74 \uD55C\uAD6D\uC5B4 \u3053\u3093 e\u0301t\u00E9 "
    "\u10D0\u10D1 \u0E20\u0E32 \u0928\u092E\u0938\u094D\u0924\u0947 $5.00 (a)[b]{c} <|x|> don't!?\r\n  end   ";

// Names of tokenizer.ggml.pre that stand for different ways to split.
constexpr const char* kNames[] = {"gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "deepseek-v3"};

std::vector<std::string> split_by(const PreTokenizer* pre_tokenizer) {
  std::vector<Piece> pieces{{kProbe, 0}};
  if (pre_tokenizer != nullptr) pre_tokenizer->apply(pieces);
  std::vector<std::string> texts;
  for (const auto& piece : pieces) texts.push_back(piece.text);
  return texts;
}

base::Result<std::string> name_of_split(const Tokenizer::Parts& parts, const Json& merges) {
  if (merges.empty()) return kNames[0];  // where nothing is joined, splitting changes nothing
  const auto texts = split_by(parts.pre_tokenizer.get());
  std::string names;
  for (const char* name : kNames) {
    auto known = make_pre_tokenizer(*gguf_pre_tokenizer(name));
    if (known && split_by(known->get()) == texts) return name;
    names += std::string(names.empty() ? "" : ", ") + name;
  }
  return fail("this model's tokenizer splits text in a way that GGUF has no name for here (known: {}); write a directory instead", names);
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
};

Tokens tokens_of(const Tokenizer::Parts& parts, int64_t rows, const std::string& unknown, bool bytes) {
  Tokens out;
  const auto& vocabulary = parts.model->vocabulary();
  for (int64_t id = 0; id < rows; ++id) {
    const auto added = parts.added.find(static_cast<int32_t>(id));
    std::string text = added != parts.added.end() ? added->second.content
                       : id < static_cast<int64_t>(vocabulary.size()) ? vocabulary.token(static_cast<int32_t>(id)) : "";
    int32_t type = added == parts.added.end() ? kNormal : added->second.special ? kControl : kUserDefined;
    if (text.empty()) {
      text = fmt::format("[PAD{}]", id);
      type = kUnused;
    }
    if (!unknown.empty() && text == unknown) type = kUnknown;
    if (bytes && text.size() == 6 && text.starts_with("<0x") && text.ends_with(">")) type = kByte;
    out.texts.push_back(std::move(text));
    out.types.push_back(type);
  }
  return out;
}

// The two halves of a merge, which tokenizer.json writes as ["a", "b"] or as "a b".
std::string merged(const Json& merge) {
  if (merge.is_array() && merge.size() == 2) return merge[0].get<std::string>() + merge[1].get<std::string>();
  std::string text = merge.get<std::string>();
  if (const auto space = text.find(' '); space != std::string::npos) text.erase(space, 1);
  return text;
}

// SentencePiece merges what has the highest score: the order of merges as scores. What no merge makes comes last.
std::vector<float> scores_of(const Tokens& tokens, const Json& merges) {
  std::unordered_map<std::string, float> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks.emplace(merged(merges[i]), -static_cast<float>(i + 1));
  std::vector<float> scores;
  const float last = -static_cast<float>(merges.size() + 1);
  for (const auto& text : tokens.texts) {
    const auto found = ranks.find(text);
    scores.push_back(found == ranks.end() ? last : found->second);
  }
  return scores;
}

std::vector<std::string> merge_texts(const Json& merges) {
  std::vector<std::string> texts;
  for (const auto& merge : merges) {
    texts.push_back(merge.is_array() && merge.size() == 2 ? merge[0].get<std::string>() + " " + merge[1].get<std::string>() : merge.get<std::string>());
  }
  return texts;
}

bool puts_space_first(const Tokenizer::Parts& parts) {
  std::string text = "a";
  if (parts.normalizer) parts.normalizer->apply(text);
  std::vector<Piece> pieces{{text, 1}};
  if (parts.pre_tokenizer) parts.pre_tokenizer->apply(pieces);
  return !pieces.empty() && pieces.front().text.starts_with("\u2581");
}

base::Status write(const Tokenizer::Parts& parts, const Json& json, int64_t rows, GgufMetadata& out) {
  const Json& model = json.at("model");
  if (text_of(model, "type", "BPE") != "BPE") return fail("a {} tokenizer cannot be written into a GGUF here; write a directory instead", text_of(model, "type"));
  const bool pieces = flag_of(model, "byte_fallback", false);
  const std::string unknown = text_of(model, "unk_token");
  const Tokens tokens = tokens_of(parts, rows, unknown, pieces);
  out.text("tokenizer.ggml.model", pieces ? "llama" : "gpt2");
  std::string split = "default";
  if (!pieces) {
    auto name = name_of_split(parts, model.at("merges"));
    if (!name) return base::pass(name);
    split = *name;
  }
  out.text("tokenizer.ggml.pre", split);
  out.texts("tokenizer.ggml.tokens", tokens.texts);
  if (pieces) out.numbers("tokenizer.ggml.scores", scores_of(tokens, model.at("merges")));
  out.integers("tokenizer.ggml.token_type", tokens.types);
  if (!pieces) out.texts("tokenizer.ggml.merges", merge_texts(model.at("merges")));
  const auto id = [&](const char* key, std::optional<int32_t> value) {
    if (value && *value < rows) out.integer(key, static_cast<uint32_t>(*value));
  };
  id("tokenizer.ggml.bos_token_id", parts.bos);
  id("tokenizer.ggml.eos_token_id", parts.eos);
  id("tokenizer.ggml.padding_token_id", parts.pad);
  if (const int32_t found = unknown.empty() ? -1 : parts.model->vocabulary().find(unknown); found >= 0) id("tokenizer.ggml.unknown_token_id", found);
  const auto around = [&](const std::vector<int32_t>& ids, std::optional<int32_t> one) { return one && std::find(ids.begin(), ids.end(), *one) != ids.end(); };
  out.boolean("tokenizer.ggml.add_bos_token", around(parts.around.before, parts.bos));
  out.boolean("tokenizer.ggml.add_eos_token", around(parts.around.after, parts.eos));
  if (pieces) out.boolean("tokenizer.ggml.add_space_prefix", puts_space_first(parts));
  return {};
}

}  // namespace

base::Status Tokenizer::to_gguf(int64_t rows, GgufMetadata& out) const {
  try {
    return write(*parts_, Json::parse(to_json()), rows, out);
  } catch (const nlohmann::json::exception& error) {
    return fail("the tokenizer cannot be written into a GGUF: {}", error.what());
  }
}

}  // namespace deepseek::formats
