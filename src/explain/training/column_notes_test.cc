#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "explain/training/train_table.h"

namespace deepseek::explain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> notes_of(const std::vector<std::string>& texts, const std::string& target = "y") {
  std::string csv = "c,y\n";
  for (size_t i = 0; i < texts.size(); ++i) csv += texts[i] + (i % 2 == 0 ? ",yes\n" : ",no\n");
  const auto table = formats::parse_table(csv, "t.csv", {});
  EXPECT_TRUE(table.has_value()) << table.error().message;
  return column_notes(*table, target);
}

TEST(ColumnNotes, DatesAsText) {
  for (const std::string form : {"2024-01-{}", "{}.01.2024", "1/{}/24 10:05", "2024-01-{}T10:05:00Z"}) {
    std::vector<std::string> texts;
    for (int day = 10; day < 30; ++day) texts.push_back(std::string(form).replace(form.find("{}"), 2, std::to_string(day)));
    EXPECT_THAT(notes_of(texts), ElementsAre(HasSubstr("column 'c' holds dates"))) << form;
  }
  for (const std::string other : {"1-2", "10.0.0.1-x", "2024-01-aa", "12345-1-1", "1-1/1", "Mon-Tue-Wed"}) EXPECT_THAT(notes_of({other, other + "1x"}), IsEmpty()) << other;
}

TEST(ColumnNotes, TextThatNamesSingleRows) {
  std::vector<std::string> ids, categories;
  for (int i = 0; i < 200; ++i) {
    ids.push_back("p" + std::to_string(i));
    categories.push_back("k" + std::to_string(i % 60));
  }
  EXPECT_THAT(notes_of(ids), ElementsAre("column 'c' has 200 texts in 200 rows: what names single rows says nothing of others; leave it out"));
  EXPECT_THAT(notes_of(ids, "c"), IsEmpty());  // the target has its own rules
  EXPECT_THAT(notes_of(categories), IsEmpty());
  EXPECT_THAT(notes_of({"a", "b", "c"}), IsEmpty());  // few rows
}

}  // namespace
}  // namespace deepseek::explain
