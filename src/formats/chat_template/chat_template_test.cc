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
