// TorchScript files against torch in Python, gradients against differences, and files that are none.
#include <gmock/gmock.h>

#include "explain/scorers/scorer_test.h"

namespace deepseek::explain {
namespace {

using namespace testing;  // NOLINT: the test's own helpers
using ::testing::HasSubstr;

const ScorerOptions kFour{.features = columns({"a", "b", "c", "d"})};

TEST(TorchScript, ScoresEqualPythons) {
  for (const std::string name : {"classes", "value"}) {
    const auto model = open_table_model(golden(name + ".pt"), kFour);
    ASSERT_TRUE(model) << model.error().message;
    const Json json = golden_json(name + ".onnx.json");  // of the same net
    expect_near(model->score(numbers(json["rows"])), numbers(json["scores"]), 1e-6);
    EXPECT_EQ(model->outputs.size(), name == "value" ? 1u : 3u);
  }
}

TEST(TorchScript, GradientsEqualDifferences) {
  const auto model = open_table_model(golden("classes.pt"), kFour);
  ASSERT_TRUE(model) << model.error().message;
  const auto rows = numbers(golden_json("classes.onnx.json")["rows"]);
  constexpr double kStep = 1e-2;  // in f32 a difference has an error of about 1e-7 / step + step^2
  for (int64_t output = 0; output < 3; ++output) {
    const auto gradients = model->gradient(rows, output);
    ASSERT_TRUE(gradients) << gradients.error().message;
    ASSERT_EQ(gradients->size(), rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      auto up = rows, down = rows;
      up[i] += kStep;
      down[i] -= kStep;
      const size_t at = i / 4 * 3 + static_cast<size_t>(output);
      EXPECT_NEAR((*gradients)[i], (model->score(up)->at(at) - model->score(down)->at(at)) / (2 * kStep), 2e-3) << i;
    }
  }
}

TEST(TorchScript, MissingValuesAndWrongWidthsAreSaid) {
  const auto model = open_table_model(golden("value.pt"), kFour);
  ASSERT_TRUE(model) << model.error().message;
  const std::vector<double> row{1, std::nan(""), 2, 3};
  EXPECT_THAT(message_of(model->score(row)), HasSubstr("where 'b' is missing"));
  EXPECT_THAT(message_of(open_table_model(golden("value.pt"), {.features = columns({"a", "b", "c"})})), HasSubstr("cannot compute it"));
}

TEST(TorchScript, CutOffAndChangedFilesGetOneSentence) {
  const Folder folder;
  const auto content = base::read_file(golden("value.pt"));
  ASSERT_TRUE(content);
  for (size_t i = 0; i < 80; ++i) {
    std::string changed = *content;
    if (i < 40) changed.resize(content->size() * i / 40);
    else changed[content->size() * (i - 40) / 40] ^= 0x11;
    const auto path = folder.write("changed.pt", changed);
    const auto model = open_table_model(path, kFour);
    if (!model) EXPECT_THAT(model.error().message, HasSubstr("changed.pt: "));
    else EXPECT_GE(i, 40u);
  }
}

}  // namespace
}  // namespace deepseek::explain
