#include "explain/prompt/prompt_tree.h"

#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "base/text.h"
#include "explain/report/words.h"

namespace deepseek::explain {
namespace {

using base::Result;

constexpr int kNameColumns = 40;  // of a group's name

// Where something of a text ends, the first at 0, and whether that is a word.
struct Boundary {
  size_t at = 0;
  bool word = false;
};

Result<std::vector<Boundary>> boundaries(std::string_view text, UBreakIteratorType type) {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<UText, decltype(&utext_close)> opened(utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status), &utext_close);
  const std::unique_ptr<UBreakIterator, decltype(&ubrk_close)> breaks(ubrk_open(type, "en@ss=standard", nullptr, 0, &status), &ubrk_close);
  if (U_SUCCESS(status) != 0) ubrk_setUText(breaks.get(), opened.get(), &status);
  if (U_FAILURE(status) != 0) return base::fail("ICU cannot split the prompt into words: {}", u_errorName(status));
  std::vector<Boundary> found;
  for (int32_t at = ubrk_first(breaks.get()); at != UBRK_DONE; at = ubrk_next(breaks.get())) {
    found.push_back({static_cast<size_t>(at), ubrk_getRuleStatus(breaks.get()) >= UBRK_WORD_NONE_LIMIT});
  }
  return found;
}

UChar32 first_character(std::string_view text) {
  UChar32 c = 0;
  int32_t at = 0;
  U8_NEXT(reinterpret_cast<const uint8_t*>(text.data()), at, static_cast<int32_t>(text.size()), c);
  return c;
}

bool is_space(std::string_view segment) { return u_isUWhiteSpace(first_character(segment)) != 0; }
bool opens(UChar32 c) { return (U_GET_GC_MASK(c) & (U_GC_PS_MASK | U_GC_PI_MASK)) != 0; }
// What counts as a word of its own: words, and symbols such as emoji.
bool stands_alone(std::string_view segment, bool word) { return word || u_charType(first_character(segment)) == U_OTHER_SYMBOL; }

// Where the pieces begin; `word_ends` are those of the text.
std::vector<size_t> piece_starts(std::string_view text, const std::vector<Boundary>& word_ends) {
  std::vector<size_t> starts{0};
  bool has_word = false, has_mark = false;  // in the piece that is open
  for (size_t i = 1; i < word_ends.size(); ++i) {
    const size_t begin = word_ends[i - 1].at;
    const std::string_view segment = text.substr(begin, word_ends[i].at - begin);
    const bool space = is_space(segment), word = !space && stands_alone(segment, word_ends[i].word);
    if (space ? has_word || has_mark : has_word && (word || opens(first_character(segment)))) {
      starts.push_back(begin);
      has_word = has_mark = false;
    }
    has_word = has_word || word;
    has_mark = has_mark || (!space && !word);
  }
  // Spaces at the end belong to the last word.
  if (starts.size() > 1 && !has_word && !has_mark) starts.pop_back();
  return starts;
}

// Bytes of spaces that `text` begins with.
size_t leading_spaces(std::string_view text) {
  int32_t at = 0;
  while (static_cast<size_t>(at) < text.size() && is_space(text.substr(static_cast<size_t>(at)))) U8_FWD_1(reinterpret_cast<const uint8_t*>(text.data()), at, static_cast<int32_t>(text.size()));
  return static_cast<size_t>(at);
}

// The pieces that paragraphs and sentences begin with.
struct Starts {
  std::vector<size_t> paragraphs{0}, sentences{0};
};

Starts group_starts(std::string_view text, const std::vector<TextPiece>& pieces, const std::vector<Boundary>& sentence_ends) {
  Starts starts;
  size_t end = 1;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const size_t begin = pieces[i].begin, word = pieces[i].word;
    // ICU ends a sentence behind its spaces, which belong to the next piece here.
    const size_t before = end;
    while (end < sentence_ends.size() && sentence_ends[end].at <= word) ++end;
    if (i == 0) continue;
    const std::string_view spaces = text.substr(begin, word - begin);
    const bool empty_line = std::count(spaces.begin(), spaces.end(), '\n') >= 2;
    if (empty_line) starts.paragraphs.push_back(i);
    if (empty_line || end > before) starts.sentences.push_back(i);
  }
  return starts;
}

std::string short_name(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!space) name += c;
    else if (!name.empty() && name.back() != ' ') name += ' ';
  }
  return fitted(harmless(name), kNameColumns);
}

class Builder {
 public:
  Builder(std::string_view text, std::vector<TextPiece> pieces) : text_(text) {
    out_.pieces = std::move(pieces);
    out_.tree.add("prompt", -1, -1);
  }

  PromptTree build(const std::vector<size_t>& paragraphs, const std::vector<size_t>& sentences) {
    for (size_t p = 0, s = 0; p < paragraphs.size(); ++p) {
      const size_t end = p + 1 < paragraphs.size() ? paragraphs[p + 1] : out_.pieces.size(), first = s;
      while (s < sentences.size() && sentences[s] < end) ++s;
      const bool group = paragraphs.size() > 1 && end - paragraphs[p] > 1;
      const int32_t parent = group ? out_.tree.add(fmt::format("¶{} {}", p + 1, short_name(between(paragraphs[p], end))), 0, -1) : 0;
      for (size_t i = first; i < s; ++i) add_sentence(sentences[i], i + 1 < s ? sentences[i + 1] : end, parent, s - first > 1);
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string_view between(size_t first, size_t last) const { return text_.substr(out_.pieces[first].begin, out_.pieces[last - 1].end - out_.pieces[first].begin); }

  void add_sentence(size_t first, size_t last, int32_t parent, bool has_siblings) {
    const bool group = has_siblings && last - first > 1;
    const int32_t node = group ? out_.tree.add(short_name(between(first, last)), parent, -1) : parent;
    for (size_t i = first; i < last; ++i) out_.tree.add(std::string(between(i, i + 1)), node, static_cast<int32_t>(i));
  }

  std::string_view text_;
  PromptTree out_;
};

}  // namespace

Result<PromptTree> prompt_tree(std::string_view prompt) {
  if (!base::is_utf8(prompt)) return base::refuse("the prompt is no UTF-8 text");
  if (prompt.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) return base::refuse("a prompt of {} is too long", base::human_bytes(prompt.size()));
  if (leading_spaces(prompt) == prompt.size()) return base::refuse("the prompt is empty");
  auto words = boundaries(prompt, UBRK_WORD), sentence_ends = boundaries(prompt, UBRK_SENTENCE);
  if (!words) return base::pass(words);
  if (!sentence_ends) return base::pass(sentence_ends);
  const std::vector<size_t> starts = piece_starts(prompt, *words);
  std::vector<TextPiece> pieces;
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t begin = starts[i], end = i + 1 < starts.size() ? starts[i + 1] : prompt.size();
    pieces.push_back({begin, begin + leading_spaces(prompt.substr(begin, end - begin)), end});
  }
  const Starts groups = group_starts(prompt, pieces, *sentence_ends);
  return Builder(prompt, std::move(pieces)).build(groups.paragraphs, groups.sentences);
}

}  // namespace deepseek::explain
