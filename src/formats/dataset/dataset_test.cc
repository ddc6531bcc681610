// Datasets: every shape recognised and named, and what is wrong with a row said with its place.
#include "formats/dataset/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepseek::formats {
namespace {

using ::testing::HasSubstr;

Dataset read(const std::string& text, const DatasetOptions& options = {}) {
  auto dataset = parse_dataset(text, "d.json", options);
  EXPECT_TRUE(dataset) << (dataset ? "" : dataset.error().message);
  return dataset ? std::move(*dataset) : Dataset{};
}

std::string refusal(const std::string& text) {
  auto dataset = parse_dataset(text, "d.json");
  return dataset ? "accepted" : dataset.error().message;
}

std::string turns(const Example& example) {
  std::string out;
  for (const auto& message : example.messages) out += message.role.substr(0, 1) + ":" + message.content + "|";
  return out;
}

TEST(Dataset, QuestionAnswerPairs) {
  const auto d = read(R"([{"question":"q1","answer":"a1","difficulty":3,"split":"val"},{"question":"q2","answer":42,"difficulty":"hard","split":"Test"}])");
  EXPECT_EQ(d.description, "question/answer pairs (question, answer), JSON array, 2 rows");
  EXPECT_EQ(turns(d.examples[0]), "u:q1|a:a1|");
  EXPECT_EQ(d.examples[0].difficulty, 3.0);
  EXPECT_EQ(d.examples[0].split, "validation");
  EXPECT_EQ(turns(d.examples[1]), "u:q2|a:42|");
  EXPECT_EQ(d.examples[1].difficulty, 3.0);
  EXPECT_EQ(d.examples[1].difficulty_label, "hard");
  EXPECT_EQ(d.examples[1].split, "test");
  for (const char* names : {R"({"prompt":"q","completion":"a"})", R"({"query":"q","response":"a"})", R"({"input":"q","output":"a"})", R"({"problem":"q","solution":"a"})"}) {
    EXPECT_EQ(turns(read(std::string("[") + names + "]").examples[0]), "u:q|a:a|") << names;
  }
}

TEST(Dataset, Alpaca) {
  const auto d = read(R"({"instruction":"i","input":"x","output":"o","system":"s","history":[["h1","h2"]]})" "\n" R"({"instruction":"i","input":"","output":"o"})" "\r\n\r\n");
  EXPECT_EQ(d.format, DatasetFormat::kAlpaca);
  EXPECT_EQ(turns(d.examples[0]), "s:s|u:h1|a:h2|u:i\nx|a:o|");
  EXPECT_EQ(turns(d.examples[1]), "u:i|a:o|");
  EXPECT_THAT(d.description, HasSubstr("JSON lines, 2 rows"));
}

TEST(Dataset, ShareGptAndOpenAi) {
  const auto s = read(R"([{"system":"y","conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"},{"from":"human","value":"left over"}]}])");
  EXPECT_EQ(s.format, DatasetFormat::kShareGpt);
  EXPECT_EQ(turns(s.examples[0]), "s:y|u:q|a:a|");
  const auto o = read(R"([{"messages":[{"role":"developer","content":"y"},{"role":"user","content":[{"type":"text","text":"q"},{"type":"text","text":"2"}]},{"role":"assistant","content":"a"}]}])");
  EXPECT_EQ(o.format, DatasetFormat::kOpenAi);
  EXPECT_EQ(turns(o.examples[0]), "s:y|u:q2|a:a|");
}

TEST(Dataset, TextWrappersAndMarks) {
  const auto text = read("\xEF\xBB\xBF{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
  EXPECT_EQ(text.format, DatasetFormat::kText);
  EXPECT_EQ(text.examples[1].text, "two");
  EXPECT_EQ(text.examples[1].row, 2u);
  const auto wrapped = read("{\n \"version\": 1,\n \"data\": [{\"question\":\"q\",\"answer\":\"a\"}]\n}");
  EXPECT_EQ(wrapped.examples.size(), 1u);
  EXPECT_THAT(wrapped.description, HasSubstr("under 'data'"));
  const auto splits = read(R"({"train": [{"question":"q","answer":"a"}], "dev": [{"question":"r","answer":"b"}], "name": "n"})");
  ASSERT_EQ(splits.examples.size(), 2u);
  EXPECT_EQ(splits.examples[0].split + splits.examples[1].split, "validationtrain");  // by name
  EXPECT_THAT(splits.description, HasSubstr("under 'dev', 'train'"));
  EXPECT_EQ(read("{\n \"question\": \"q\",\n \"answer\": \"a\"\n}").examples.size(), 1u);
  EXPECT_EQ(read(R"([{"question":"q","answer":"a","level":2}])", {.difficulty_field = "level"}).examples[0].difficulty, 2.0);
  EXPECT_EQ(read(R"([{"text":"t","question":"q","answer":"a"}])", {.format = DatasetFormat::kText}).examples[0].text, "t");
}

TEST(Dataset, WhatIsWrongIsSaidWithItsPlace) {
  EXPECT_EQ(refusal(""), "d.json: the file is empty");
  EXPECT_EQ(refusal("[]"), "d.json: the dataset is empty");
  EXPECT_THAT(refusal("question,answer\n1,2\n"), HasSubstr("neither JSON nor JSON lines"));
  EXPECT_THAT(refusal("[{\"question\":\"q\",\"answer\":\"a\"}"), HasSubstr("d.json: not valid JSON"));
  EXPECT_THAT(refusal("{\"text\":\"a\"}\n{\"text\":\n{\"text\":\"b\"}\n"), HasSubstr("line 2: not valid JSON"));
  EXPECT_THAT(refusal(R"([{"question":"q","answer":"a"},{"question":"q2"}])"), HasSubstr("row 2: there is no 'answer'"));
  EXPECT_THAT(refusal(R"([{"question":"q","answer":null}])"), HasSubstr("row 1: there is no 'answer'"));
  EXPECT_THAT(refusal(R"([{"question":"q","answer":" \n"}])"), HasSubstr("the answer in 'answer' is empty"));
  EXPECT_THAT(refusal(R"([{"question":"","answer":"a"}])"), HasSubstr("the question in 'question' is empty"));
  EXPECT_THAT(refusal(R"([{"question":{},"answer":"a"}])"), HasSubstr("'question' is no text"));
  EXPECT_THAT(refusal(R"([{"instruction":"i"}])"), HasSubstr("there is no 'output'"));
  EXPECT_THAT(refusal(R"([{"messages":[{"role":"user","content":"q"}]}])"), HasSubstr("holds no answer"));
  EXPECT_THAT(refusal(R"([{"messages":[{"role":"wizard","content":"q"}]}])"), HasSubstr("the role 'wizard'"));
  EXPECT_THAT(refusal(R"([{"messages":[]}])"), HasSubstr("holds no answer"));
  EXPECT_THAT(refusal(R"([{"a":1,"b":2}])"), HasSubstr("row 1: no known shape; it has the fields a, b"));
  EXPECT_THAT(refusal(R"([{"question":"q","answer":"a"},{"text":"t"}])"), HasSubstr("row 2: this is raw text, the rows before are question/answer"));
  EXPECT_THAT(refusal(R"([{"question":"q","answer":"a","difficulty":"odd"}])"), HasSubstr("the difficulty 'odd'"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("a record is a JSON object"));
  EXPECT_THAT(refusal("[{\"text\":\"\xFF\"}]"), HasSubstr("line 1 is not UTF-8; save the file as UTF-8"));
  EXPECT_THAT(refusal("\n{\"text\":\"a\"}\n\n{\"text\":\"\xFC\"}\n"), HasSubstr("line 4 is not UTF-8"));
  EXPECT_THAT(refusal(std::string(200, '[')), HasSubstr("nested more than"));
  auto missing = read_dataset("/nonexistent/d.json");
  EXPECT_THAT(missing.error().message, HasSubstr("does not exist"));
  EXPECT_THAT(read_dataset("/tmp").error().message, HasSubstr("is a directory"));
}

TEST(Dataset, HowFilesAreWrittenInPractice) {
  const std::string one = R"({"question":"q","answer":"a"})", two = R"({"question":"q","answer":"b","answer":"c"})";
  for (const std::string& text : {one + "\n" + two, "\xEF\xBB\xBF\r\n" + one + "\r\n\r\n  \r\n" + two + "\r\n", "\xEF\xBB\xBF[" + one + ",\r\n" + two + "]\r\n"}) {
    const auto d = read(text);
    ASSERT_EQ(d.examples.size(), 2u) << text;
    EXPECT_EQ(turns(d.examples[1]), "u:q|a:c|");  // of two fields with one name the last counts, as in Python
  }
  EXPECT_THAT(refusal("[" + one + ",]"), HasSubstr("d.json: not valid JSON: parse error at line 1, column"));
  EXPECT_THAT(refusal("\n" + one + "\n\n{\"question\":\"q\",}\n"), HasSubstr("d.json: line 4: not valid JSON: parse error at column"));
  EXPECT_THAT(refusal("{\"question\":\"q\",}\n" + one), HasSubstr("d.json: line 1: not valid JSON"));
  EXPECT_THAT(refusal(one + "\n" + R"({"question":"q"})"), HasSubstr("row 2 (line 2): there is no 'answer'"));
  EXPECT_THAT(refusal(one + "\n[1]"), HasSubstr("row 2 (line 2): a record is a JSON object"));
  EXPECT_THAT(refusal(one + "\n" + std::string(100'000, '[')), HasSubstr("line 2: JSON is nested more than"));
  EXPECT_THAT(refusal(R"([{"text":"a","difficulty":1e999}])"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("null"), HasSubstr("neither JSON nor JSON lines"));
  EXPECT_EQ(read(R"([{"text":"a","difficulty":"Very Hard"}])").examples[0].difficulty, 4.0);
}

TEST(Dataset, ManyFieldsAreNotQuadratic) {
  std::string record = "{\"question\":\"q\",\"answer\":\"a\"";
  for (int i = 0; i < 100'000; ++i) record += ",\"k" + std::to_string(i) + "\":0";
  EXPECT_EQ(read("[" + record + "}]").examples.size(), 1u);
}

TEST(Dataset, TheBundledQuestions) {
  auto dataset = read_dataset(DEEPSEEK_SOURCE_DIR "/data/finance_qa.json");
  ASSERT_TRUE(dataset) << dataset.error().message;
  EXPECT_GE(dataset->examples.size(), 500u);
  for (const auto& example : dataset->examples) EXPECT_TRUE(example.difficulty && !example.split.empty());
}

}  // namespace
}  // namespace deepseek::formats
