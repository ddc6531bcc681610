// ONNX files of torch and scikit-learn against the scores of their makers, and files that are broken or hostile.
#include <gmock/gmock.h>

#include "explain/scorers/onnx_file.h"
#include "explain/scorers/protobuf.h"
#include "explain/scorers/scorer_test.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::HasSubstr;

const ScorerOptions kFour{.features = columns({"a", "b", "c", "d"})};

TEST(Onnx, ScoresEqualTheirMakers) {
  for (const std::string name : {"classes", "value", "one_row", "scikit_mlp"}) {
    const auto model = open_table_model(golden(name + ".onnx"), kFour);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->kind, "ONNX");
    const Json json = golden_json(name + ".onnx.json");
    expect_near(model->score(numbers(json["rows"])), numbers(json["scores"]), 1e-5);
    EXPECT_EQ(model->outputs.size(), name == "value" ? 1u : name == "scikit_mlp" ? 2u : 3u);
  }
}

TEST(Onnx, ManyRowsAreOneRowManyTimes) {
  for (const char* name : {"classes.onnx", "one_row.onnx"}) {
    const auto model = open_table_model(golden(name), kFour);
    ASSERT_TRUE(model) << model.error().message;
    std::vector<double> rows;
    for (int i = 0; i < 4 * 5000; ++i) rows.push_back(std::sin(i) * 3);
    const auto all = model->score(rows);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->size(), 15'000u);
    for (const size_t r : {0, 1, 4095, 4096, 4999}) {
      expect_near(model->score(std::span(rows).subspan(r * 4, 4)), {all->begin() + static_cast<int64_t>(r * 3), all->begin() + static_cast<int64_t>(r * 3 + 3)},
                  1e-5);
    }
  }
}

TEST(Onnx, WhatIsNotReadIsSaid) {
  EXPECT_THAT(message_of(open_table_model(golden("trees.onnx"), kFour)), HasSubstr("the operator TreeEnsembleRegressor of ai.onnx.ml"));
  EXPECT_THAT(message_of(open_table_model(golden("classes.onnx"), {.features = columns({"a", "b"})})), HasSubstr("reads 4 features; 2 are given"));
  EXPECT_THAT(message_of(open_table_model(golden("classes.onnx"))), HasSubstr("names no columns"));
  const Folder folder;
  EXPECT_THAT(message_of(open_table_model(folder.write("empty.onnx", ""), kFour)), HasSubstr("no ONNX file"));
  EXPECT_THAT(message_of(open_table_model(folder.write("text.onnx", "hello, this is text"), kFour)), HasSubstr("no ONNX file"));
  const auto model = open_table_model(golden("value.onnx"), kFour);
  ASSERT_TRUE(model) << model.error().message;
  const std::vector<double> row{std::nan(""), 1, 2, 3};
  EXPECT_THAT(message_of(model->score(row)), HasSubstr("where 'a' is missing"));
}

// A tensor of f32 with that shape and so many bytes.
std::string tensor(const std::string& name, const std::vector<int64_t>& dims, size_t bytes) {
  std::string out;
  for (const int64_t dim : dims) protobuf::put_number(out, 1, static_cast<uint64_t>(dim));
  protobuf::put_number(out, 2, 1);
  protobuf::put_bytes(out, 8, name);
  protobuf::put_bytes(out, 9, std::string(bytes, '\0'));
  return out;
}
std::string node(const std::string& op, const std::vector<std::string>& inputs, const std::string& output, const std::string& attributes = "") {
  std::string out;
  for (const auto& input : inputs) protobuf::put_bytes(out, 1, input);
  protobuf::put_bytes(out, 2, output);
  protobuf::put_bytes(out, 4, op);
  return out + attributes;
}
std::string value(const std::string& name, const std::vector<int64_t>& dims) {
  std::string shape, type, whole, out;
  for (const int64_t dim : dims) {
    std::string size;
    protobuf::put_number(size, 1, static_cast<uint64_t>(dim));
    protobuf::put_bytes(shape, 1, size);
  }
  protobuf::put_number(type, 1, 1);
  protobuf::put_bytes(type, 2, shape);
  protobuf::put_bytes(whole, 1, type);
  protobuf::put_bytes(out, 1, name);
  protobuf::put_bytes(out, 2, whole);
  return out;
}
std::string net(const std::vector<std::string>& nodes, const std::vector<std::string>& tensors, const std::vector<int64_t>& input = {1, 4}) {
  std::string graph, opset, out;
  for (const auto& bytes : nodes) protobuf::put_bytes(graph, 1, bytes);
  for (const auto& bytes : tensors) protobuf::put_bytes(graph, 5, bytes);
  protobuf::put_bytes(graph, 11, value("x", input));
  protobuf::put_bytes(graph, 12, value("y", {1, 2}));
  protobuf::put_number(opset, 2, 13);
  protobuf::put_number(out, 1, 8);
  protobuf::put_bytes(out, 7, graph);
  protobuf::put_bytes(out, 8, opset);
  return out;
}

TEST(Onnx, AMissingValueGetsNoScore) {
  const Folder folder;
  const auto clipped = folder.write("clip.onnx", net({node("Clip", {"x"}, "z"), node("MatMul", {"z", "w"}, "y")}, {tensor("w", {4, 2}, 32)}));
  const auto model = open_table_model(clipped, kFour);
  ASSERT_TRUE(model) << model.error().message;
  expect_near(model->score(std::vector<double>(4, 1.0)), {0, 0}, 0);
  EXPECT_THAT(message_of(model->score(std::vector<double>{1, 2, std::nan(""), 3})), HasSubstr("where 'c' is missing"));
}

TEST(Onnx, HostileShapesAreRefusedBeforeAnythingReadsThem) {
  const auto good = read_onnx(net({node("MatMul", {"x", "w"}, "y")}, {tensor("w", {4, 2}, 32)}), 4);
  ASSERT_TRUE(good) << good.error().message;
  for (const auto& [file, expected] : std::vector<std::pair<std::string, std::string>>{
           {net({node("MatMul", {"x", "w"}, "y")}, {tensor("w", {4, 2}, 31)}), "does not hold the 8 numbers"},
           {net({node("MatMul", {"x", "w"}, "y")}, {tensor("w", {4, 1 << 20}, 32)}), "does not hold"},
           {net({node("MatMul", {"x", "w"}, "y")}, {tensor("w", {int64_t{1} << 40, int64_t{1} << 40}, 32)}), "has a dimension of"},
           {net({node("MatMul", {"x", "w"}, "y")}, {tensor("w", {-4, -2}, 32)}), "has a dimension of -4"},
           {net({node("MatMul", {"x", "w"}, "y")}, {}), "nothing makes 'w'"},
           {net({node("MatMul", {"x"}, "y")}, {}), "an operator MatMul has 1 inputs"},
           {net({node("Add", {"x", "y"}, "y")}, {}), "nothing makes 'y'"},
           {net({node("Relu", {"z"}, "y"), node("Relu", {"y"}, "z")}, {}), "nothing makes"},
           {net({node("Relu", {"x"}, "y"), node("Abs", {"x"}, "y")}, {}), "two operators make 'y'"},
           {net({node("Loop", {"x"}, "y")}, {}), "the operator Loop"},
           {net({node("Relu", {"x"}, "z")}, {}), "nothing makes its output"},
           {net({}, {}), "nothing makes its output"},
           {net({node("Relu", {"x"}, "y")}, {}, {1, 4, 4}), "is no [rows, features]"},
           {net({node("Relu", {"x"}, "y")}, {}, {1 << 20, 4}), "1048576 rows"}}) {
    EXPECT_THAT(message_of(read_onnx(file, 4)), HasSubstr(expected));
  }
}

TEST(Onnx, CutOffAndChangedFilesDoNotCrash) {
  const Folder folder;
  for (const char* name : {"classes.onnx", "value.onnx", "one_row.onnx", "scikit_mlp.onnx"}) {
    const auto content = base::read_file(golden(name));
    ASSERT_TRUE(content);
    const size_t step = std::max<size_t>(content->size() / 60, 1);
    for (size_t at = 0; at < content->size(); at += step) {
      std::string changed = *content;
      changed[at] ^= static_cast<char>(1 << at % 8);
      const auto model = open_table_model(folder.write("changed.onnx", changed), kFour);  // a changed weight is still a model
      if (model) {
        (void)model->score(std::vector<double>(8, 0.5));
      }
      EXPECT_FALSE(open_table_model(folder.write("cut.onnx", content->substr(0, at)), kFour)) << name << " " << at;
    }
  }
}

}  // namespace
}  // namespace deepseek::explain
