#include "formats/tokenizer/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/json.h"
#include "base/text.h"
#include "formats/tokenizer/parts.h"
#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

using base::Result;

constexpr size_t kMaxFile = size_t{256} << 20;
constexpr size_t kCachedPiece = 64;  // bytes; longer pieces hardly come twice

Result<Tokenizer> parse_file(const base::fs::path& file) {
  auto text = base::read_file(file, kMaxFile);
  if (!text) return base::pass(text);
  auto tokenizer = Tokenizer::parse(*text);
  if (!tokenizer) return base::within(file.string(), tokenizer.error());
  return tokenizer;
}

// An empty object where there is none.
Result<Json> tokenizer_config(const base::fs::path& directory) {
  const auto file = directory / "tokenizer_config.json";
  if (!base::fs::exists(file)) return Json::object();
  auto text = base::read_file(file, kMaxFile);
  if (!text) return base::pass(text);
  auto config = base::parse_large_json(*text);
  if (!config) return base::within(file.string(), config.error());
  if (!config->is_object()) return base::fail("{} is no JSON object", file.string());
  return config;
}

Result<Tokenizer> open_directory(const base::fs::path& directory, const Json& config) {
  if (base::fs::exists(directory / "tokenizer.json")) return parse_file(directory / "tokenizer.json");
  const auto file = directory / "vocab.txt";
  if (!base::fs::exists(file)) {
    return base::fail("{} has no tokenizer.json{}", directory.string(),
                      base::fs::exists(directory / "tokenizer.model") ? "; a tokenizer.model alone is not supported, save it once with Transformers" : "");
  }
  auto vocab = base::read_file(file, kMaxFile);
  if (!vocab) return base::pass(vocab);
  auto described = describe_vocab(*vocab, config);
  if (!described) return base::within(file.string(), described.error());
  auto tokenizer = Tokenizer::parse(described->dump());
  if (!tokenizer) return base::within(file.string(), tokenizer.error());
  return tokenizer;
}

std::optional<int32_t> first_known(const Tokenizer& tokenizer, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const auto id = tokenizer.token_id(name); id && tokenizer.is_special(*id)) return id;
  }
  return std::nullopt;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::open(const base::fs::path& file_or_directory) {
  const bool directory = base::fs::is_directory(file_or_directory);
  if (!directory) return parse_file(file_or_directory);
  auto config = tokenizer_config(file_or_directory);
  if (!config) return base::pass(config);
  auto tokenizer = open_directory(file_or_directory, *config);
  if (!tokenizer) return tokenizer;
  auto& parts = *tokenizer->parts_;
  const auto set = [&](const char* key, std::optional<int32_t>& id) {
    if (const std::string name = named_token(*config, key); !name.empty()) {
      if (const auto found = tokenizer->token_id(name)) id = found;
    }
  };
  set("bos_token", parts.bos);
  set("eos_token", parts.eos);
  set("pad_token", parts.pad);
  return tokenizer;
}

Result<Tokenizer> Tokenizer::parse(std::string_view text) {
  auto json = base::parse_large_json(text);
  if (!json) return base::pass(json);
  try {
    auto parts = make_parts(*json);
    if (!parts) return base::pass(parts);
    if (auto checked = (*parts)->check_around(); !checked) return base::pass(checked);
    (*parts)->source = std::string(text);
    Tokenizer tokenizer(std::move(*parts));
    tokenizer.parts_->bos = first_known(tokenizer, {"<bos>", "<s>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "[CLS]"});
    tokenizer.parts_->eos = first_known(tokenizer, {"<eos>", "</s>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|endoftext|>", "[SEP]"});
    tokenizer.parts_->pad = first_known(tokenizer, {"<pad>", "[PAD]", "<｜▁pad▁｜>"});
    return tokenizer;
  } catch (const nlohmann::json::exception& error) {
    return base::fail("the tokenizer's description is broken: {}", error.what());
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  auto ids = parts_->encode(text, true);
  if (!add_special_tokens) return ids;
  ids.insert(ids.begin(), parts_->around.before.begin(), parts_->around.before.end());
  ids.insert(ids.end(), parts_->around.after.begin(), parts_->around.after.end());
  return ids;
}

std::vector<int32_t> Tokenizer::encode_truncated(std::string_view text, size_t most) const {
  const Template& around = parts_->around;
  const size_t framed = around.before.size() + around.after.size();
  auto body = parts_->encode(text, true);
  body.resize(std::min(body.size(), most > framed ? most - framed : 0));
  std::vector<int32_t> ids = around.before;
  ids.insert(ids.end(), body.begin(), body.end());
  ids.insert(ids.end(), around.after.begin(), around.after.end());
  return ids;
}

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const { return parts_->encode(text, false); }

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (skip_special_tokens && is_special(id)) continue;
    if (const auto added = parts_->added.find(id); added != parts_->added.end()) {
      tokens.push_back(added->second.content);
    } else if (const auto& token = parts_->model->vocabulary().token(id); !token.empty()) {
      tokens.push_back(token);
    }
  }
  if (tokens.empty()) return "";
  parts_->decoder->apply(tokens);
  std::string text;
  for (const auto& token : tokens) text += token;
  return text;
}

size_t Tokenizer::vocabulary_size() const { return parts_->vocabulary_size(); }

size_t Tokenizer::Parts::vocabulary_size() const {
  const size_t size = model->vocabulary().size();
  return added.empty() ? size : std::max(size, static_cast<size_t>(added.rbegin()->first) + 1);
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  if (const auto found = parts_->added_ids.find(std::string(token)); found != parts_->added_ids.end()) return found->second;
  const int32_t id = parts_->model->vocabulary().find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::string Tokenizer::token(int32_t id) const {
  if (const auto added = parts_->added.find(id); added != parts_->added.end()) return added->second.content;
  return parts_->model->vocabulary().token(id);
}

// By spelling: a vocabulary may hold a special token's spelling twice.
bool Tokenizer::is_special(int32_t id) const {
  const auto found = parts_->added_ids.find(token(id));
  return found != parts_->added_ids.end() && parts_->added.at(found->second).special;
}

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return parts_->pad; }
std::string Tokenizer::to_json() const { return parts_->source.empty() ? parts_->write() : parts_->source; }

std::vector<int32_t> Tokenizer::Parts::encode(std::string_view raw, bool special) const {
  const std::string text = base::to_valid_utf8(raw);
  std::vector<int32_t> ids;
  std::unordered_map<std::string, std::vector<int32_t>> seen;
  const auto encode_piece = [&](const std::string& piece) {
    if (piece.empty()) return;
    if (piece.size() > kCachedPiece) return model->encode(piece, ids);
    auto [entry, fresh] = seen.try_emplace(piece);
    if (fresh) model->encode(piece, entry->second);
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  };
  for (const auto& raw_segment : raw_tokens.split(text, special)) {
    if (raw_segment.id >= 0) {
      ids.push_back(raw_segment.id);
      continue;
    }
    std::string part = text.substr(raw_segment.begin, raw_segment.end - raw_segment.begin);
    std::string first = raw_segment.begin == 0 ? part.substr(0, utf8_length(part[0])) : "";
    normalizer->apply(part);
    normalizer->apply(first);
    const size_t leading = first.empty() ? 0 : part.starts_with(first) ? first.size() : 1;
    for (const auto& segment : normalized_tokens.split(part, special)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        continue;
      }
      std::vector<Piece> pieces{Piece{part, raw_segment.begin == 0 ? leading : 0}.part(segment.begin, segment.end)};
      pre_tokenizer->apply(pieces);
      for (const auto& piece : pieces) encode_piece(piece.text);
    }
  }
  return ids;
}

Result<std::unique_ptr<Tokenizer::Parts>> make_parts(const Json& json) {
  if (!json.is_object()) return base::fail("a tokenizer.json is a JSON object");
  const Json none;
  const auto part = [&](const char* key) -> const Json& { return json.contains(key) ? json[key] : none; };
  auto parts = std::make_unique<Tokenizer::Parts>();
  auto normalizer = make_normalizer(part("normalizer"));
  if (!normalizer) return base::pass(normalizer);
  auto pre_tokenizer = make_pre_tokenizer(part("pre_tokenizer"));
  if (!pre_tokenizer) return base::pass(pre_tokenizer);
  auto decoder = make_decoder(part("decoder"));
  if (!decoder) return base::pass(decoder);
  if (!((*normalizer)->growth * (*pre_tokenizer)->growth <= kMostGrowth) || !((*decoder)->growth <= kMostGrowth)) {
    return base::fail("the tokenizer's replacements could make a text more than {} times longer; this is no honest file", kMostGrowth);
  }
  auto around = make_template(part("post_processor"));
  if (!around) return base::pass(around);
  auto added = read_added_tokens(part("added_tokens"));
  if (!added) return base::pass(added);
  auto model = make_token_model(part("model"));
  if (!model) return base::pass(model);
  parts->normalizer = std::move(*normalizer);
  parts->pre_tokenizer = std::move(*pre_tokenizer);
  parts->decoder = std::move(*decoder);
  parts->around = std::move(*around);
  parts->model = std::move(*model);
  for (auto& token : *added) parts->add(token);
  return parts;
}

void Tokenizer::Parts::add(AddedToken token) {
  if (token.content.empty()) return;
  // Where the model knows the spelling, its id counts, whatever the list says.
  if (const int32_t id = model->vocabulary().find(token.content); id >= 0) token.id = id;
  added[token.id] = token;
  added_ids[token.content] = token.id;
  if (!token.normalized) {
    raw_tokens.add(token.content, token);
    return;
  }
  std::string spelling = token.content;
  normalizer->apply(spelling);
  normalized_tokens.add(spelling, token);
}

base::Status Tokenizer::Parts::check_around() const {
  const auto size = static_cast<int64_t>(vocabulary_size());
  for (const auto* ids : {&around.before, &around.after}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= size) return base::fail("the post-processor adds the token {}, but the vocabulary has {}", id, size);
    }
  }
  return {};
}

std::string StreamDecoder::text_between(size_t begin, size_t end) const {
  return tokenizer_->decode({ids_.begin() + static_cast<long>(begin), ids_.begin() + static_cast<long>(end)});
}

std::string StreamDecoder::push(int32_t id) {
  constexpr const char* kReplacement = "\xEF\xBF\xBD";
  constexpr size_t kMostOpen = 16;  // a character has at most four bytes: more tokens than this are no text
  ids_.push_back(id);
  const std::string old_text = text_between(prefix_, read_), new_text = text_between(prefix_, ids_.size());
  const bool open = new_text.size() <= old_text.size() || new_text.ends_with(kReplacement);
  if (open && ids_.size() - read_ < kMostOpen) return "";
  prefix_ = read_;
  read_ = ids_.size();
  return new_text.size() > old_text.size() ? new_text.substr(old_text.size()) : "";
}

std::string StreamDecoder::finish() {
  const std::string old_text = text_between(prefix_, read_), new_text = text_between(prefix_, ids_.size());
  ids_.clear();
  prefix_ = read_ = 0;
  return new_text.size() > old_text.size() ? new_text.substr(old_text.size()) : "";
}

}  // namespace deepseek::formats
