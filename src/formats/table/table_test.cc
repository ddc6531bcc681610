// Tables: what a file holds, whatever it looks like, and what is wrong with it said with its place.
#include "formats/table/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace deepseek::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::NanSensitiveDoubleEq;

Table read(const std::string& text, const TableOptions& options = {}) {
  auto table = parse_table(text, "t.csv", options);
  EXPECT_TRUE(table) << (table ? "" : table.error().message) << " in " << text;
  return table ? std::move(*table) : Table{};
}

std::string refusal(const std::string& text, const TableOptions& options = {}) {
  auto table = parse_table(text, "t.csv", options);
  return table ? "accepted" : table.error().message;
}

// Columns as "name=a|b|-" with "-" for missing values, numbers as they print.
std::string shown(const Table& table) {
  std::string out;
  for (const Column& column : table.columns) {
    out += (out.empty() ? "" : "; ") + column.name + "=";
    for (size_t r = 0; r < column.values.size(); ++r) {
      const double v = column.values[r];
      out += (r == 0 ? "" : "|") + (std::isnan(v) ? "-" : column.is_number() ? fmt::format("{}", v) : "'" + column.categories.at(static_cast<size_t>(v)) + "'");
    }
  }
  return out;
}

TEST(Table, NumbersCategoriesAndMissingValues) {
  const Table table = read("age,job,score\n39,clerk,1e5\n?,baker,-.5\n50,?,NA\n38,clerk,+2.25E-3\n");
  EXPECT_EQ(table.rows, 4);
  EXPECT_EQ(shown(table), "age=39|-|50|38; job='clerk'|'baker'|-|'clerk'; score=100000|-0.5|-|0.00225");
  EXPECT_THAT(table.find("job")->categories, ElementsAre("baker", "clerk"));
  EXPECT_THAT(table.find("job")->values, ElementsAre(1, 0, NanSensitiveDoubleEq(std::nan("")), 1));
  EXPECT_EQ(table.find("Job"), nullptr);
  EXPECT_THAT(table.notes, IsEmpty());
  EXPECT_EQ(shown(read("a,b\n-1,NaN\n-999,x\n", {.missing = {"-999"}})), "a=-1|-; b='NaN'|'x'");
  EXPECT_EQ(shown(read("a,b\n,null\nNone,N/A\n")), "a=-|-; b=-|-");
}

TEST(Table, QuotesOfRfc4180) {
  const Table table = read("name,\"a \"\"b\"\"\"\n\"x, y\",\" 1\"\n \"two\nlines\" ,2\n\"say \"\"hi\"\"\",3\nin\"side,4\n\"\",5\n\"?\",6\n");
  EXPECT_EQ(shown(table), "name='x, y'|'two\nlines'|'say \"hi\"'|'in\"side'|-|-; a \"b\"=' 1'|'2'|'3'|'4'|'5'|'6'");
  EXPECT_EQ(shown(read("a,b\n\"1\",\"2.5\"\n")), "a=1; b=2.5");
  EXPECT_EQ(shown(read("a,b\n\"x\"\"y\",1\n\"x\"\"y\",2\n")), "a='x\"y'|'x\"y'; b=1|2");
}

TEST(Table, HowFilesAreWrittenInPractice) {
  const std::string expected = "a=1|2; b='x y'|'z'";
  for (const char* text : {"a,b\n1,x y\n2,z", "\xEF\xBB\xBF" "a,b\r\n1,x y\r\n2,z\r\n\r\n", "a, b\n1,  x y\n 2 ,\tz \n\n \n\n", "a;b\n1;x y\n2;z\n", "a\tb\n1\tx y\n2\tz\n", "a|b\n1|x y\n2|z\n",
                           "a,b\r1,x y\r2,z\r", "\n\na,b\n\n1,x y\n\n2,z\n"}) {
    EXPECT_EQ(shown(read(text)), expected) << text;
  }
  EXPECT_EQ(shown(read("price;count\n1,5;2\n2,25;3\n")), "price=1.5|2.25; count=2|3");         // ; splits all rows alike, the comma does not
  EXPECT_EQ(shown(read("a\tb\n\t1\n2\t\n\t\n")), "a=-|2|-; b=1|-|-");                               // a tab that separates is no blank
  EXPECT_EQ(shown(read("only\n1\n2\n")), "only=1|2");
  EXPECT_EQ(shown(read("only\n1,5\n2,5\n", {.separator = ';'})), "only=1.5|2.5");
  EXPECT_EQ(shown(read(",x,\n0,1,\n1,2,\n")), "column 1=0|1; x=1|2; column 3=-|-");                 // an index that pandas wrote, and a comma at each end
}

TEST(Table, ColumnsThatTurnToTextLate) {
  std::string text = "n,code,other\n";
  for (int i = 0; i < 1000; ++i) text += fmt::format("{},0{},{}\n", i, i % 7, i == 998 ? "x" : "");
  text += "1000,7a,y\n";
  const Table table = read(text);
  const Column &code = *table.find("code"), &other = *table.find("other");
  ASSERT_EQ(code.values.size(), 1001u);
  EXPECT_THAT(code.categories, ElementsAre("00", "01", "02", "03", "04", "05", "06", "7a"));  // the text of each number as it was written
  for (size_t i = 0; i < 1000; ++i) ASSERT_EQ(code.values[i], static_cast<double>(i % 7));
  EXPECT_EQ(code.values[1000], 7);
  EXPECT_TRUE(std::isnan(other.values[0]));
  EXPECT_EQ(other.values[998], 0);
  EXPECT_EQ(other.values[1000], 1);
  const Table kept = read("a,zip\n1,01234\n2,1234\n3,\n", {.categorical = {"zip"}});
  EXPECT_EQ(shown(kept), "a=1|2|3; zip='01234'|'1234'|-");
}

TEST(Table, NumbersAtTheEdges) {
  EXPECT_EQ(number_in("5."), 5.0);
  EXPECT_EQ(number_in("-0"), 0.0);
  EXPECT_EQ(number_in("4.9e-324"), std::numeric_limits<double>::denorm_min());
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  for (const char* large : {"1e999", "Infinity", "+inf", "1e0000000000000000000000309", "1234e99999999999999999999"}) EXPECT_EQ(number_in(large), kInfinite) << large;
  EXPECT_EQ(number_in(std::string(400, '9')), kInfinite);
  EXPECT_EQ(number_in("-INF"), -kInfinite);
  EXPECT_EQ(number_in("0e999"), 0.0);
  for (const char* small : {"1e-999", "12345e-99999999999999999999"}) EXPECT_EQ(number_in(small), 0.0) << small;
  EXPECT_EQ(number_in("0." + std::string(400, '0') + "1"), 0.0);
  for (const char* none : {"", "+", "-", ".", "e5", "1e", "0x10", "1,5", "1 000", "1_0", "nan", "--1", "+-1", " 1", "1 ", "infinit", "infinity0", "10%", "12:30"}) EXPECT_FALSE(number_in(none)) << none;
  const Table table = read("a,b\ninf,1\n-1e999,2\n3,inf\n");
  EXPECT_EQ(shown(table), "a=-|-|3; b=1|2|-");
  EXPECT_THAT(table.notes, ElementsAre("column 'a': 2 infinite values count as missing", "column 'b': 1 infinite values count as missing"));
  EXPECT_EQ(shown(read("a,b\ninf,1\nx,2\n")), "a='inf'|'x'; b=1|2");  // a column of text
}

TEST(Table, NamesGivenApart) {
  const TableOptions names{.names = {"age", "job"}};
  EXPECT_EQ(shown(read("39, clerk\n50, baker\n", names)), "age=39|50; job='clerk'|'baker'");
  EXPECT_EQ(shown(read("39\n50,\n", {.names = {"age,"}, .separator = ';'})), "age,='39'|'50,'");
  EXPECT_EQ(shown(read("age,job\n39,clerk\n", names)), "age=39; job='clerk'");  // a header after all
  EXPECT_EQ(shown(read("1,2|3\n4,5|6\n", {.names = {"a", "b"}, .separator = '|'})), "a=1.2|4.5; b=3|6");
  EXPECT_EQ(refusal("1,2,3\n", names), "t.csv: line 1 has 3 values, but 2 names of columns are given");
  EXPECT_EQ(refusal("1,2\n3,4\n5\n", names), "t.csv: line 3 has 1 values, the first row 2");
}

TEST(Table, AFirstRowOfNumbersIsNoHeader) {
  EXPECT_EQ(refusal("5.1,3.5,1.4,0.2,7\n4.9,3.0,1.4,0.2,8\n"),
            "t.csv: the first row, 5.1, 3.5, 1.4, 0.2, ..., holds numbers where the names of the columns belong; give the names apart (--columns) if the file has no header");
  EXPECT_THAT(refusal("2019,2020\n1,2\n"), HasSubstr("the first row, 2019, 2020, holds numbers"));
  EXPECT_EQ(shown(read("2019,2020\n1,2\n", {.names = {"2019", "2020"}})), "2019=1; 2020=2");
  const Table counted = read(",0,1,2\n0,5,6,7\n");  // pandas numbers columns that have no names
  EXPECT_EQ(shown(counted), "column 1=0; 0=5; 1=6; 2=7");
  EXPECT_THAT(counted.notes, ElementsAre(HasSubstr("some columns are named by numbers: , 0, 1, 2; if the file has no header")));
  EXPECT_THAT(read("39, State-gov, 77516\n50, Private, 83311\n").notes, ElementsAre(HasSubstr("named by numbers: 39, State-gov, 77516; if")));
}

TEST(Table, WhatIsWrongIsSaidWithItsPlace) {
  EXPECT_EQ(refusal(""), "t.csv: the file is empty");
  EXPECT_EQ(refusal("\xEF\xBB\xBF \r\n\n"), "t.csv: the file is empty");
  EXPECT_EQ(refusal("a,b\n\n"), "t.csv: there are no rows below the header");
  EXPECT_EQ(refusal("a,b\n1,2\n\n\"3\n\",4\n5,6,7\n"), "t.csv: line 6 has 3 values, the header 2");
  EXPECT_EQ(refusal("a,b\r\n1,2\r\n\"3\r\n\",4\r\n5\r\n", {.separator = ','}), "t.csv: line 5 has 1 values, the header 2");
  EXPECT_EQ(refusal("a,b\n1,\"2\n3,4\n"), "t.csv: line 2: a quote opens here and does not close");
  EXPECT_EQ(refusal("a,b\n1,\"2\"x\n"), "t.csv: line 2: text follows a closing quote; a quote within quotes is written twice");
  EXPECT_EQ(refusal("a,b,a\n1,2,3\n"), "t.csv: columns 1 and 3 are both named 'a'; rename one");
  EXPECT_EQ(refusal("a,b\n1,\xFF\n"), "t.csv: line 2 is not UTF-8; save the file as UTF-8");
  EXPECT_EQ(refusal(std::string("a,b\n1,\0\n", 8)), "t.csv: byte 6 is zero: this is no CSV text in UTF-8");
  EXPECT_THAT(refusal("\xFF\xFE" "a"), HasSubstr("is UTF-16"));
  EXPECT_THAT(refusal("\x1F\x8B\x08"), HasSubstr("compressed by gzip"));
  EXPECT_THAT(refusal("PK\x03\x04"), HasSubstr("save the table as CSV"));
  EXPECT_EQ(refusal("age,b\n1,2\n", {.categorical = {"agee"}}), "t.csv: there is no column 'agee' to read as text; is 'age' meant?");
  EXPECT_EQ(refusal("a\n1\n2\n3\n", {.max_rows = 2}), "t.csv: there are more than 2 rows");
  EXPECT_EQ(refusal("a,b,c\n1,2,3\n", {.max_columns = 2}), "t.csv: line 1 has more than 2 values");
  EXPECT_EQ(refusal("a,b\n1,2\n", {.max_bytes = 4}), "t.csv: a table has at most 4 B");
  EXPECT_THAT(read_table("/nonexistent/t.csv").error().message, HasSubstr("does not exist"));
  EXPECT_THAT(read_table("/tmp").error().message, HasSubstr("is a directory"));
}

TEST(Table, WrittenTablesAreReadBack) {
  const Table table = read("x,\"odd, name\",text\n0.1,1e300,\" a\"\n-7,,\"b\"\"c\"\n12345678901234567,5e-324,\"d\ne\"\n1e15,-0,\"?x\"\n,3,\n");
  const std::string text = csv_text(table);
  EXPECT_EQ(text, "x,\"odd, name\",text\n0.1,1e+300,\" a\"\n-7,,\"b\"\"c\"\n1.2345678901234568e+16,5e-324,\"d\ne\"\n1000000000000000,-0,?x\n,3,\n");
  EXPECT_EQ(shown(read(text)), shown(table));
  const auto path = base::fs::temp_directory_path() / "deepseek_table_test.csv";
  ASSERT_TRUE(write_table(table, path));
  const auto again = read_table(path);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(shown(*again), shown(table));
  base::fs::remove(path);
  EXPECT_EQ(csv_text(read("only\n1\n?\n\"\"\n2\n")), "only\n1\n\"\"\n\"\"\n2\n");  // a blank line would be no row
}

TEST(Table, CommasAreDecimalPointsWhereTheySeparateNothing) {
  const Table table = read("a;b;c;d\n0,5;1;1,5;x,1\n-2,25;;1.234,5;2\n3;2,0;1,5;3\n");
  ASSERT_EQ(table.columns.size(), 4u);
  EXPECT_THAT(table.columns[0].values, ElementsAre(0.5, -2.25, 3));
  EXPECT_TRUE(table.columns[1].is_number());
  EXPECT_TRUE(std::isnan(table.columns[1].values[1]));
  EXPECT_FALSE(table.columns[2].is_number());  // grouped digits are not guessed at
  EXPECT_FALSE(table.columns[3].is_number());
  EXPECT_THAT(table.notes, ElementsAre("column 'a': its commas are read as decimal points", "column 'b': its commas are read as decimal points"));
  EXPECT_FALSE(read("a,b\n\"0,5\",1\n\"1,5\",2\n").columns[0].is_number());
  EXPECT_FALSE(parse_table("a;b\n0,5;1\n1,5;2\n", "t", {.categorical = {"a"}})->columns[0].is_number());
}

}  // namespace
}  // namespace deepseek::formats
