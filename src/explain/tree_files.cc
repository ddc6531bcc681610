// XGBoost's and LightGBM's model files. Nothing in them is trusted: what is read passes check_ensemble().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.h"
#include "explain/tree_ensemble.h"

namespace deepseek::explain {
namespace {

using base::Result;
using base::Status;
using Json = nlohmann::json;

constexpr size_t kLargestFile = size_t{1} << 30;
constexpr size_t kMostCategoryWords = size_t{1} << 26;  // of all sets; 256 MiB, which a short file could ask for many times
constexpr size_t kMostLevels = 64;                      // of UBJSON, which is read by recursion
constexpr double kMostOutputs = 1e5;

// A number that XGBoost writes as text, in its later versions as the text of a list.
Result<std::vector<double>> numbers_in(std::string_view text) {
  std::vector<double> numbers;
  for (size_t at = 0; at < text.size();) {
    if (std::string_view("[], ").find(text[at]) != std::string_view::npos) {
      ++at;
      continue;
    }
    double x = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), x);
    if (error != std::errc{}) return base::fail("'{}' is no number", text.substr(0, 40));
    numbers.push_back(x);
    at = static_cast<size_t>(end - text.data());
  }
  return numbers;
}

// ---- XGBoost ----

struct Columns {
  const Json& tree;
  size_t nodes;
  // An array of one value for each node.
  [[nodiscard]] const Json& at(const char* name) const {
    const Json& column = tree.at(name);
    if (!column.is_array() || column.size() != nodes) throw Json::other_error::create(501, fmt::format("{} has not one value for each of the {} nodes", name, nodes), nullptr);
    return column;
  }
};

// words: of the sets of all trees so far.
void read_categories(const Json& json, Tree& tree, size_t& words) {
  const Json &nodes = json.at("categories_nodes"), &segments = json.at("categories_segments"), &sizes = json.at("categories_sizes"), &all = json.at("categories");
  size_t left_over = all.size();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto node = nodes[i].get<size_t>(), begin = segments.at(i).get<size_t>(), count = sizes.at(i).get<size_t>();
    if (count > left_over) throw Json::other_error::create(501, "categories of several nodes overlap", nullptr);
    left_over -= count;
    std::vector<uint32_t> left;
    for (size_t c = begin; c < begin + count; ++c) {  // these go to the right
      const auto category = all.at(c).get<uint32_t>();
      if (category > (1u << 24)) throw Json::other_error::create(501, fmt::format("a category of {}", category), nullptr);
      if (left.size() <= category / 32) left.resize(category / 32 + 1, ~0u);
      left[category / 32] &= ~(1u << (category % 32));
    }
    if ((words += left.size()) > kMostCategoryWords) throw Json::other_error::create(501, "too many categories", nullptr);
    if (node >= tree.nodes.size()) throw Json::other_error::create(501, fmt::format("categories of node {}", node), nullptr);
    tree.nodes[node].categories = static_cast<int32_t>(tree.category_sets.size());
    tree.nodes[node].threshold = 0;  // XGBoost before 2.0 writes NaN for splits by sets
    tree.category_sets.push_back(std::move(left));
  }
}

Tree xgboost_tree(const Json& json, double weight, size_t& words) {
  const size_t count = json.at("left_children").size();
  const Columns columns{json, count};
  const Json &left = columns.at("left_children"), &right = columns.at("right_children"), &feature = columns.at("split_indices"), &condition = columns.at("split_conditions"),
             &to_left = columns.at("default_left"), &hessian = columns.at("sum_hessian");
  Tree tree;
  tree.nodes.resize(count);
  for (size_t n = 0; n < count; ++n) {
    TreeNode& node = tree.nodes[n];
    node.left = left[n].get<int32_t>();
    node.right = right[n].get<int32_t>();
    node.cover = hessian[n].get<double>();
    const auto number = condition[n].get<float>();
    if (node.left < 0) {
      node.value = weight * number;
      continue;
    }
    node.feature = feature[n].get<int32_t>();
    if (node.feature < 0) throw Json::other_error::create(501, fmt::format("node {} splits by feature {}", n, node.feature), nullptr);
    node.threshold = std::nextafter(number, -std::numeric_limits<float>::infinity());  // x < t among floats
    node.default_left = to_left[n].is_boolean() ? to_left[n].get<bool>() : to_left[n].get<int>() != 0;
    node.others_left = true;
  }
  if (const auto found = json.find("categories_nodes"); found != json.end() && !found->empty()) read_categories(json, tree, words);
  return tree;
}

Status set_link(const std::string& objective, TreeEnsemble& model) {
  using Link = TreeEnsemble::Link;
  if (objective.starts_with("binary:logi") || objective == "reg:logistic") {
    model.link = Link::kLogistic;
    for (double& base : model.base) {
      if (!(base > 0 && base < 1)) return base::fail("a base_score of {} is no probability", base);
      base = std::log(base / (1 - base));
    }
  } else if (objective.starts_with("multi:soft")) {
    model.link = Link::kSoftmax;
  } else if (objective == "count:poisson" || objective == "reg:gamma" || objective == "reg:tweedie" || objective == "survival:cox" || objective == "survival:aft") {
    model.link = Link::kExponential;
    for (double& base : model.base) base = std::log(base);
  }
  return {};
}

Result<TreeEnsemble> xgboost_model(const Json& json) {
  const Json& learner = json.at("learner");
  const Json& parameters = learner.at("learner_model_param");
  const Json* booster = &learner.at("gradient_booster");
  const auto name = booster->at("name").get<std::string>();
  std::vector<double> weights;
  if (name == "dart") {
    weights = booster->at("weight_drop").get<std::vector<double>>();
    booster = &booster->at("gbtree");
  } else if (name != "gbtree") {
    return base::refuse("the booster '{}' has no trees; gbtree and dart are read", name);
  }
  const Json& trees = booster->at("model");
  TreeEnsemble model{.kind = "XGBoost", .float_inputs = true};
  if (const auto names = learner.find("feature_names"); names != learner.end()) model.features = names->get<std::vector<std::string>>();
  auto features = numbers_in(parameters.at("num_feature").get<std::string>()), classes = numbers_in(parameters.at("num_class").get<std::string>()),
       base = numbers_in(parameters.at("base_score").get<std::string>());
  for (auto* numbers : {&features, &classes, &base}) {
    if (!*numbers) return base::pass(*numbers);
    if ((*numbers)->empty()) return base::fail("learner_model_param has an empty field");
  }
  const double count = features->front();
  if (!(count >= 1 && count <= 1e7)) return base::fail("num_feature is {}", count);
  for (auto j = model.features.size(); j < static_cast<size_t>(count); ++j) model.features.push_back(fmt::format("f{}", j));
  if (!(classes->front() >= 0 && classes->front() <= kMostOutputs)) return base::fail("num_class is {}", classes->front());
  const auto outputs = static_cast<size_t>(std::max(classes->front(), 1.0));
  model.base = *base;
  if (model.base.size() == 1) model.base.assign(outputs, base->front());
  if (model.base.size() != outputs) return base::fail("{} base scores for {} outputs", model.base.size(), outputs);
  const Json &list = trees.at("trees"), &info = trees.at("tree_info");
  size_t words = 0;
  for (size_t t = 0; t < list.size(); ++t) {
    const Json& shape = list[t].at("tree_param");
    if (const auto size = shape.find("size_leaf_vector"); size != shape.end() && size->get<std::string>() > "1") return base::refuse("trees with several values in a leaf are not read");
    model.trees.push_back(xgboost_tree(list[t], weights.empty() ? 1 : weights.at(t), words));
    model.trees.back().output = info.at(t).get<int32_t>();
  }
  if (Status ok = set_link(learner.at("objective").at("name").get<std::string>(), model); !ok) return base::pass(ok);
  return model;
}

constexpr const char* kNoXgboost =
    "this is no XGBoost model: a part is absent or of another type than save_model() writes; save it again, or name the directory that --train wrote";

// Sees UBJSON before a document is made of it: a few bytes may ask for any number of values, or nest deeper than the stack.
class UbjsonLimits : public nlohmann::json_sax<Json> {
 public:
  explicit UbjsonLimits(size_t most_values) : left_(most_values) {}
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool key(string_t&) override { return true; }
  bool start_object(size_t) override { return value() && ++level_ <= kMostLevels; }
  bool start_array(size_t) override { return value() && ++level_ <= kMostLevels; }
  bool end_object() override { return level_-- > 0; }
  bool end_array() override { return level_-- > 0; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool value() { return left_ > 0 && left_-- > 0; }
  size_t left_, level_ = 0;
};

Result<TreeEnsemble> read_xgboost(std::string_view content) {
  try {
    if (content.size() > 1 && std::string_view("\" \t\r\n").find(content[1]) != std::string_view::npos) {  // UBJSON has the length of a name there
      auto json = base::parse_large_json(content);
      if (!json) return base::pass(json);
      return xgboost_model(*json);
    }
    UbjsonLimits limits(content.size());
    if (!Json::sax_parse(content.begin(), content.end(), &limits, Json::input_format_t::ubjson)) return base::fail("{}", kNoXgboost);
    return xgboost_model(Json::from_ubjson(content.begin(), content.end()));
  } catch (const Json::exception&) {
    return base::fail("{}", kNoXgboost);
  } catch (const std::out_of_range&) {
    return base::fail("this is no XGBoost model: a list is too short");
  }
}

// ---- LightGBM ----

using Fields = std::map<std::string, std::string, std::less<>>;

// Reads `name=value` lines up to an empty one.
Fields read_fields(std::string_view& content) {
  Fields fields;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) break;
    const size_t equal = line.find('=');
    fields.emplace(line.substr(0, equal), equal == std::string_view::npos ? "" : line.substr(equal + 1));
  }
  return fields;
}

template <typename T>
Result<std::vector<T>> list_of(const Fields& fields, const char* name, size_t count) {
  const auto found = fields.find(name);
  if (found == fields.end()) return base::fail("{} is missing", name);
  std::vector<T> list;
  const char *at = found->second.data(), *end = at + found->second.size();
  while (at < end) {
    if (*at == ' ') {
      ++at;
      continue;
    }
    T x{};
    const auto [next, error] = std::from_chars(at, end, x);
    if (error != std::errc{} || (next < end && *next != ' ')) return base::fail("{} holds '{}'", name, std::string(at, std::find(at, end, ' ')));
    list.push_back(x);
    at = next;
  }
  if (list.size() != count) return base::fail("{} has {} values, not {}", name, list.size(), count);
  return list;
}

Result<int64_t> number_of(const Fields& fields, const char* name) {
  auto list = list_of<int64_t>(fields, name, 1);
  if (!list) return base::pass(list);
  return list->front();
}

struct Splits {
  std::vector<int64_t> feature, kind, left, right, cover, leaf_cover;
  std::vector<double> threshold, value;
};

template <typename T>
Status into(std::vector<T>& to, const Fields& fields, const char* name, size_t count) {
  auto list = list_of<T>(fields, name, count);
  if (!list) return base::pass(list);
  to = std::move(*list);
  return {};
}

Result<Splits> splits_of(const Fields& fields, size_t leaves) {
  Splits s;
  for (const auto& [to, name, count] : {std::tuple{&s.feature, "split_feature", leaves - 1}, {&s.kind, "decision_type", leaves - 1}, {&s.left, "left_child", leaves - 1},
                                        {&s.right, "right_child", leaves - 1}, {&s.cover, "internal_count", leaves - 1}, {&s.leaf_cover, "leaf_count", leaves}}) {
    if (Status ok = into(*to, fields, name, count); !ok) return base::pass(ok);
  }
  if (Status ok = into(s.threshold, fields, "threshold", leaves - 1); !ok) return base::pass(ok);
  if (Status ok = into(s.value, fields, "leaf_value", leaves); !ok) return base::pass(ok);
  return s;
}

Status read_category_sets(const Fields& fields, Tree& tree) {
  auto count = number_of(fields, "num_cat");
  if (!count || *count == 0) return {};
  if (*count < 0 || *count > (1 << 20)) return base::fail("num_cat is {}", *count);
  auto bounds = list_of<int64_t>(fields, "cat_boundaries", static_cast<size_t>(*count) + 1);
  if (!bounds) return base::pass(bounds);
  if (bounds->front() != 0 || !std::is_sorted(bounds->begin(), bounds->end())) return base::fail("cat_boundaries do not rise from 0");
  auto words = list_of<uint32_t>(fields, "cat_threshold", static_cast<size_t>(bounds->back()));
  if (!words) return base::pass(words);
  for (size_t i = 0; i + 1 < bounds->size(); ++i) tree.category_sets.emplace_back(words->begin() + (*bounds)[i], words->begin() + (*bounds)[i + 1]);
  return {};
}

// LightGBM numbers splits and leaves apart (leaves as ~index); here a child comes after its parent.
Result<Tree> lightgbm_tree(const Fields& fields) {
  Tree tree;
  const auto leaves = number_of(fields, "num_leaves");
  if (!leaves) return tl::make_unexpected(leaves.error());
  if (*leaves < 1 || *leaves > (1 << 26)) return base::fail("num_leaves is {}", *leaves);
  if (const auto linear = fields.find("is_linear"); linear != fields.end() && linear->second != "0") return base::refuse("trees with linear models in their leaves are not read");
  const auto count = static_cast<size_t>(*leaves);
  if (count == 1) {
    auto value = list_of<double>(fields, "leaf_value", 1);
    if (!value) return base::pass(value);
    tree.nodes.push_back({.value = value->front(), .cover = 1});
    return tree;
  }
  auto splits = splits_of(fields, count);
  if (!splits) return base::pass(splits);
  if (Status ok = read_category_sets(fields, tree); !ok) return base::pass(ok);
  std::vector<int64_t> waiting{0};  // LightGBM's numbers, in the order of the nodes here
  for (size_t n = 0; n < waiting.size(); ++n) {
    TreeNode node;
    const int64_t number = waiting[n];
    if (number < 0) {
      const auto leaf = static_cast<size_t>(~number);
      if (leaf >= count) return base::fail("leaf {} of {}", leaf, count);
      node.value = splits->value[leaf];
      node.cover = static_cast<double>(splits->leaf_cover[leaf]);
    } else {
      const auto split = static_cast<size_t>(number);
      if (split >= count - 1 || waiting.size() + 2 > 2 * count) return base::fail("split {} of {}, or one that is reached twice", split, count - 1);
      const int64_t kind = splits->kind[split];
      if (splits->feature[split] < 0 || splits->feature[split] > std::numeric_limits<int32_t>::max()) return base::fail("split_feature is {}", splits->feature[split]);
      node.feature = static_cast<int32_t>(splits->feature[split]);
      node.threshold = splits->threshold[split];
      node.cover = static_cast<double>(splits->cover[split]);
      node.default_left = (kind & 2) != 0;
      node.missing = (kind >> 2 & 3) == 0 ? TreeNode::Missing::kNone : (kind >> 2 & 3) == 1 ? TreeNode::Missing::kZero : TreeNode::Missing::kNan;
      if ((kind & 1) != 0) {
        if (!(node.threshold >= 0 && node.threshold < static_cast<double>(tree.category_sets.size()))) return base::fail("split {} names a set of categories that is not there", split);
        node.categories = static_cast<int32_t>(node.threshold);
        node.default_left = false;  // a missing category is one that no set holds
        node.missing = TreeNode::Missing::kNan;
      }
      node.left = static_cast<int32_t>(waiting.size());
      node.right = node.left + 1;
      waiting.push_back(splits->left[split]);
      waiting.push_back(splits->right[split]);
    }
    tree.nodes.push_back(node);
  }
  return tree;
}

Result<TreeEnsemble> read_lightgbm(std::string_view content) {
  TreeEnsemble model{.kind = "LightGBM"};
  const Fields header = read_fields(content);
  auto most = number_of(header, "max_feature_idx"), outputs = number_of(header, "num_tree_per_iteration");
  for (auto* number : {&most, &outputs}) {
    if (!*number) return base::pass(*number);
    if (**number < 0 || **number > 10'000'000) return base::fail("the header says {} features and {} outputs", *most + 1, *outputs);
  }
  if (*outputs < 1) return base::fail("num_tree_per_iteration is 0");
  if (const auto names = header.find("feature_names"); names != header.end()) {
    for (size_t at = 0; at < names->second.size();) {
      const size_t end = std::min(names->second.find(' ', at), names->second.size());
      if (end > at) model.features.push_back(names->second.substr(at, end - at));
      at = end + 1;
    }
  }
  if (model.features.size() != static_cast<size_t>(*most) + 1) return base::fail("{} names for {} features", model.features.size(), *most + 1);
  model.base.assign(static_cast<size_t>(*outputs), 0);
  const auto objective = header.find("objective");
  const std::string_view name = objective == header.end() ? std::string_view() : std::string_view(objective->second);
  if (name.starts_with("binary") || name.starts_with("cross_entropy") || name.starts_with("multiclassova")) model.link = TreeEnsemble::Link::kLogistic;
  else if (name.starts_with("multiclass")) model.link = TreeEnsemble::Link::kSoftmax;
  else if (name.starts_with("poisson") || name.starts_with("gamma") || name.starts_with("tweedie")) model.link = TreeEnsemble::Link::kExponential;
  while (!content.empty()) {
    const Fields fields = read_fields(content);
    if (fields.contains("end of trees")) break;
    if (!fields.contains("Tree")) continue;
    auto tree = lightgbm_tree(fields);
    if (!tree) return base::within(fmt::format("tree {}", model.trees.size()), tree.error());
    tree->output = static_cast<int32_t>(model.trees.size() % static_cast<size_t>(*outputs));
    model.trees.push_back(std::move(*tree));
  }
  if (header.contains("average_output")) {
    const double rounds = static_cast<double>(model.trees.size()) / static_cast<double>(*outputs);
    for (Tree& tree : model.trees) {
      for (TreeNode& node : tree.nodes) node.value /= rounds;
    }
  }
  return model;
}

}  // namespace

Result<TreeEnsemble> parse_tree_ensemble(std::string_view content) {
  Result<TreeEnsemble> model = [&]() -> Result<TreeEnsemble> {
    if (content.starts_with("tree\n") || content.starts_with("tree\r\n")) return read_lightgbm(content);
    if (content.starts_with("{")) return read_xgboost(content);
    return base::refuse("this is neither XGBoost's JSON or UBJSON nor LightGBM's text; save an XGBoost model as .json or .ubj");
  }();
  if (!model) return model;
  if (Status ok = check_ensemble(*model); !ok) return base::pass(ok);
  return model;
}

Result<TreeEnsemble> read_tree_ensemble(const base::fs::path& path) {
  auto content = base::read_file(path, kLargestFile);
  if (!content) return base::pass(content);
  auto model = parse_tree_ensemble(*content);
  if (!model) return base::within(path.string(), model.error());
  return model;
}

}  // namespace deepseek::explain
