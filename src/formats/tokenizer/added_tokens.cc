#include "formats/tokenizer/added_tokens.h"

#include "formats/tokenizer/unicode.h"

namespace deepseek::formats {
namespace {

bool word_ends_at(const std::string& text, size_t at) {
  if (at == 0) return false;
  size_t begin = at - 1;
  while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
  return is_word(next_character(text, begin));
}

bool word_begins_at(const std::string& text, size_t at) { return at < text.size() && is_word(next_character(text, at)); }

// Not beyond `least`, where the token before ends.
size_t blanks_before(const std::string& text, size_t at, size_t least) {
  while (at > least) {
    size_t begin = at - 1;
    while (begin > 0 && (text[begin] & 0xC0) == 0x80) --begin;
    size_t read = begin;
    if (!is_white_space(next_character(text, read))) break;
    at = begin;
  }
  return at;
}

size_t blanks_after(const std::string& text, size_t at) {
  while (at < text.size()) {
    size_t read = at;
    if (!is_white_space(next_character(text, read))) break;
    at = read;
  }
  return at;
}
}  // namespace

int32_t TokenFinder::child(int32_t node, char byte) const {
  const auto wanted = static_cast<unsigned char>(byte);
  if (node == 0) return beginnings_[wanted];
  int32_t at = nodes_[static_cast<size_t>(node)].child;
  while (at >= 0 && nodes_[static_cast<size_t>(at)].byte != wanted) at = nodes_[static_cast<size_t>(at)].sibling;
  return at;
}

int32_t TokenFinder::make_child(int32_t node, char byte) {
  const auto made = static_cast<int32_t>(nodes_.size());
  Node& parent = nodes_[static_cast<size_t>(node)];
  const Node child{.byte = static_cast<unsigned char>(byte), .sibling = parent.child};
  parent.child = made;
  if (node == 0) beginnings_[child.byte] = made;
  nodes_.push_back(child);
  return made;
}

void TokenFinder::add(const std::string& spelling, const AddedToken& token) {
  if (spelling.empty()) return;
  int32_t node = 0;
  for (const char byte : spelling) {
    const int32_t known = child(node, byte);
    node = known >= 0 ? known : make_child(node, byte);
  }
  nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

std::pair<int32_t, size_t> TokenFinder::longest(const std::string& text, size_t at, bool special) const {
  std::pair<int32_t, size_t> best{-1, at};
  int32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node < 0) break;
    const int32_t token = nodes_[static_cast<size_t>(node)].token;
    if (token >= 0 && (special || !tokens_[static_cast<size_t>(token)].special)) best = {token, i + 1};
  }
  return best;
}

std::vector<Segment> TokenFinder::split(const std::string& text, bool special) const {
  std::vector<Segment> out;
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    const auto [index, found_end] = longest(text, at, special);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = at, end = found_end;
    at = found_end;
    if (begin < done) continue;
    if (token.single_word && (word_ends_at(text, begin) || word_begins_at(text, end))) continue;
    if (token.lstrip) begin = blanks_before(text, begin, done);
    if (token.rstrip) end = blanks_after(text, end);
    if (begin > done) out.push_back({-1, done, begin});
    out.push_back({token.id, begin, end});
    done = end;
  }
  if (done < text.size()) out.push_back({-1, done, text.size()});
  return out;
}

base::Result<std::vector<AddedToken>> read_added_tokens(const Json& list) {
  std::vector<AddedToken> out;
  if (list.is_null()) return out;
  if (!list.is_array()) return base::fail("added_tokens is no list");
  for (const auto& entry : list) {
    if (!entry.is_object() || !entry.contains("id") || !entry["id"].is_number_integer() || entry["id"].get<int64_t>() < 0 || entry["id"].get<int64_t>() >= 16'777'216) {
      return base::fail("an added token has no sensible id");
    }
    AddedToken token{text_of(entry, "content"), entry["id"].get<int32_t>()};
    if (token.content.size() > kLongestToken) return base::fail("the added token {} has {} bytes, more than {}", token.id, token.content.size(), kLongestToken);
    token.special = flag_of(entry, "special", false);
    token.single_word = flag_of(entry, "single_word", false);
    token.lstrip = flag_of(entry, "lstrip", false);
    token.rstrip = flag_of(entry, "rstrip", false);
    token.normalized = flag_of(entry, "normalized", !token.special);
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace deepseek::formats
