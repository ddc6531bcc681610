// Chat templates against Transformers: the families' own, small ones for each part of the language, and hostile ones.
#include "formats/chat_template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/files.h"
#include "base/json.h"

namespace deepseek::formats {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
const base::fs::path kGolden = DEEPSEEK_SOURCE_DIR "/tests/golden/chat_templates/golden.json";

base::Result<std::string> rendered(const Json& golden, const Json& one) {
  auto made = one.contains("name") ? ChatTemplate::builtin(one["name"].get<std::string>()) : ChatTemplate::compile(one["source"].get<std::string>());
  if (!made) return base::pass(made);
  return made->render_json(golden["conversations"][one["messages"].get<std::string>()], one["generate"].get<bool>(), one["variables"]);
}

TEST(ChatTemplate, EqualsTransformers) {
  const auto text = base::read_file(kGolden);
  ASSERT_TRUE(text) << text.error().message;
  const auto golden = base::parse_json(*text);
  ASSERT_TRUE(golden);
  size_t refused = 0;
  for (const auto& one : (*golden)["cases"]) {
    const std::string what = (one.contains("name") ? one["name"] : one["source"]).get<std::string>() + " with " + one["messages"].get<std::string>();
    const auto got = rendered(*golden, one);
    if (one["expected"].is_null()) {
      EXPECT_FALSE(got) << what << " gives " << *got;
      ++refused;
    } else {
      ASSERT_TRUE(got) << what << ": " << got.error().message;
      EXPECT_EQ(*got, one["expected"].get<std::string>()) << what;
    }
  }
  EXPECT_GE((*golden)["cases"].size(), 200u);
  EXPECT_GE(refused, 20u);
}

std::string refusal(const std::string& source) {
  auto made = ChatTemplate::compile(source);
  if (!made) return made.error().message;
  auto text = made->render({{"user", "q"}}, true);
  return text ? "accepted" : text.error().message;
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_EQ(refusal("a\n{{ x"), "the chat template is wrong: line 2: a tag is not closed");
  EXPECT_THAT(refusal("a\n\n{% if x %}b"), HasSubstr("line 3: 'endif' is missing"));
  EXPECT_THAT(refusal("\n{{ nothing.here }}"), HasSubstr("line 2: 'nothing' is undefined"));
  EXPECT_EQ(refusal("{{ raise_exception('only users') }}"), "the chat template refuses these messages: only users");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  EXPECT_THAT(refusal("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("too deeply"));
  EXPECT_THAT(refusal("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% set x = 'a' * 9000000000 %}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% for a in range(90000) %}{{ 'a' * 10000 }}{% endfor %}"), HasSubstr("too much"));
  EXPECT_THAT(refusal("{{ 9223372036854775807 + 1 }}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{{ 999999999999999999 * 999999999999999999 }}"), HasSubstr("too large"));
  EXPECT_THAT(refusal(std::string(5000, '(')), "accepted");  // plain text
  EXPECT_THAT(refusal("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"), HasSubstr("too deeply"));
  EXPECT_THAT(refusal("{{ " + std::string(5000, '-') + "1 }}"), HasSubstr("too deeply"));
  EXPECT_THAT(refusal("{% set a = namespace() %}{% set a.b = a %}{{ a }}"), HasSubstr("too deeply"));
  EXPECT_THAT(refusal("{{ 'x' % 1 }}{{ \xFF }}"), HasSubstr("not UTF-8"));
}

// Each of these filled the memory, the stack or the day.
TEST(ChatTemplate, TemplatesThatGrowAreStopped) {
  EXPECT_THAT(refusal("{% set ns = namespace(s='abc') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{{ ('x\\n' * 400000) | indent('a' * 1000000) }}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{{ range(100000) | join('a' * 1000000) }}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{{ ('a' * 9000000) | list | length }}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% set s = 'a' * 9000000 %}{% for i in range(99999) %}{% set x = s[i] %}{% endfor %}"), HasSubstr("too long"));
  EXPECT_THAT(refusal("{% set l = range(100000) %}{% for i in l %}{% set x = l | first %}{% endfor %}"), HasSubstr("too long"));
  EXPECT_EQ(refusal("{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ 'end' }}"), "accepted");
  EXPECT_THAT(refusal("{% set a = namespace() %}{% set b = namespace() %}{% set a.x = b %}{% set b.x = a %}{{ a == b }}"), HasSubstr("too deeply"));
  for (const char* filter : {"sort", "unique", "map('string') | list", "tojson", "select('in', l) | list"}) {
    EXPECT_THAT(refusal(std::string("{% set l = range(100000) %}{% for i in l %}{% set x = l | ") + filter + " %}{% endfor %}"), HasSubstr("line 1:")) << filter;
  }
  const std::string each = "{% for c in 'forty characters, forty characters, forty' %}", done = "{% endfor %}";
  EXPECT_THAT(refusal(each + each + each + each + "x" + done + done + done + done), HasSubstr("takes too long"));
  EXPECT_EQ(refusal("{% set s = 'a' * 4000000 %}{{ (s ~ 'b' ~ s) in (s ~ s ~ s) }}"), "accepted");
}

TEST(ChatTemplate, LongChainsAreRefusedBeforeTheyAreWalked) {
  std::string sum = "1", members = "x", filters = "x";
  for (int i = 0; i < 50'000; ++i) {
    sum += "+1";
    members += ".y";
    filters += "|trim";
  }
  for (const auto& chain : {sum, members, filters}) EXPECT_THAT(refusal("{{ " + chain + " }}"), HasSubstr("too deeply")) << chain.substr(0, 9);
}

TEST(ChatTemplate, NumbersStayInTheirRange) {
  const std::string least = "(-999999999999999999 * 9 - 223372036854775817)";
  EXPECT_EQ(refusal("{{ " + least + " is divisibleby(-1) }}"), "accepted");
  EXPECT_THAT(refusal("{{ " + least + " | abs }}"), HasSubstr("too large"));
  EXPECT_THAT(refusal("{{ (2.5 ** 2000) | int }}"), HasSubstr("too large"));
  EXPECT_EQ(refusal("{{ 'abc'[::" + least + "] }}{{ 'abc'[::-1 - " + least + "] }}{{ range(0, 5, -1 - " + least + ") | list }}"), "accepted");
}

TEST(ChatTemplate, FiltersAsInJinja) {
  // Expected: what Jinja 3.1 gives, its tuples as lists.
  EXPECT_EQ(*ChatTemplate::compile("{{ {'Z': 1, 'y': 3, 'a': 2} | dictsort }}{{ {'Z': 1, 'y': 3} | dictsort(by='value', reverse=true) }}{{ {'b': 1, 'Z': 2} | dictsort(true) }}")->render({}, false),
            "[['a', 2], ['y', 3], ['Z', 1]][['y', 3], ['Z', 1]][['Z', 2], ['b', 1]]");
  EXPECT_EQ(*ChatTemplate::compile("{{ ','.join(['', 'a', '']) }}|{{ ['a', 'A', 'b', 1, 1.0, none] | unique | list }}")->render({}, false), ",a,|['a', 'b', 1, None]");
}

TEST(ChatTemplate, BuiltinsAreNamed) {
  EXPECT_EQ(ChatTemplate::builtin_names().size(), 8u);
  EXPECT_THAT(ChatTemplate::builtin("nonesuch").error().message, HasSubstr("known are llama-2"));
  // For the golden script.
  if (const char* path = std::getenv("DEEPSEEK_WRITE_BUILTINS")) {
    Json all;
    for (const auto& name : ChatTemplate::builtin_names()) all[name] = ChatTemplate::builtin(name)->source();
    std::ofstream(path) << all;
  }
}

}  // namespace
}  // namespace deepseek::formats
