#include "explain/groups_file.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#ifdef DEEPSEEK_HAVE_YAML
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>
#endif

namespace deepseek::explain {
namespace {

using base::Result;
using Json = nlohmann::ordered_json;

constexpr size_t kLargestFile = size_t{1} << 20;
constexpr size_t kMostLevels = 64;
constexpr size_t kMostNodes = 200'000;

// Thrown through a parser to stop it.
struct Refusal {
  std::string what;
};

// Builds JSON from the events of a parser, within the limits.
class Builder {
 public:
  [[nodiscard]] bool wants_name() const { return !open_.empty() && open_.back().content.is_object() && !open_.back().has_name; }
  [[nodiscard]] Json& result() { return result_; }

  void name(const std::string& name) {
    count();
    Level& level = open_.back();
    if (!level.names.insert(name).second) throw Refusal{fmt::format("the group '{}' is there twice", name)};
    level.name = name;
    level.has_name = true;
  }

  void value(Json value) {
    count();
    put(std::move(value));
  }

  void begin(Json empty) {
    count();
    if (open_.size() == kMostLevels) throw Refusal{fmt::format("groups are nested more than {} levels deep", kMostLevels)};
    open_.push_back({.content = std::move(empty)});
  }

  void end() {
    Json closed = std::move(open_.back().content);
    open_.pop_back();
    put(std::move(closed));
  }

 private:
  // A map or list that is not closed yet, and the name in its map that waits for its content.
  struct Level {
    Json content;
    std::set<std::string> names;
    std::string name;
    bool has_name = false;
  };

  void count() {
    if (++nodes_ > kMostNodes) throw Refusal{fmt::format("there are more than {} names and groups", kMostNodes)};
  }

  void put(Json value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (Level& level = open_.back(); level.content.is_array()) {
      level.content.push_back(std::move(value));
    } else {
      level.content.get_ref<Json::object_t&>().push_back({level.name, std::move(value)});  // operator[] would look through all names before it
      level.has_name = false;
    }
  }

  std::vector<Level> open_;
  Json result_;
  size_t nodes_ = 0;
};

class JsonEvents : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return value(v); }
  bool number_unsigned(number_unsigned_t v) override { return value(v); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool string(string_t& v) override { return value(v); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return begin(Json::object()); }
  bool start_array(size_t) override { return begin(Json::array()); }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }
  bool key(string_t& name) override {
    builder_.name(name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string reason = error.what();
    if (const auto end = reason.find("] "); end != std::string::npos) reason = reason.substr(end + 2);
    throw Refusal{fmt::format("not valid JSON: {}", base::to_valid_utf8(reason))};
  }
  [[nodiscard]] Json& result() { return builder_.result(); }

 private:
  bool value(Json v) {
    builder_.value(std::move(v));
    return true;
  }
  bool begin(Json empty) {
    builder_.begin(std::move(empty));
    return true;
  }
  bool end() {
    builder_.end();
    return true;
  }
  Builder builder_;
};

Result<Json> groups_of_json(const std::string& text) {
  JsonEvents events;
  try {
    Json::sax_parse(text, &events);
  } catch (const Refusal& refusal) {
    return base::fail("{}", refusal.what);
  }
  return std::move(events.result());
}

#ifdef DEEPSEEK_HAVE_YAML

class YamlEvents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    see(mark, YAML::NullAnchor);
    if (started_) throw Refusal{"a second document begins; groups are one"};
    started_ = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    see(mark, anchor);
    if (builder_.wants_name()) throw Refusal{"a group has no name"};
    builder_.value(nullptr);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    see(mark, YAML::NullAnchor);
    throw Refusal{"aliases are not read; write the features out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, const std::string& value) override {
    see(mark, anchor);
    if (!base::is_utf8(value)) throw Refusal{"a name is not UTF-8"};
    if (builder_.wants_name()) builder_.name(value);
    else builder_.value(value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override { begin(mark, anchor, Json::array()); }
  void OnSequenceEnd() override { builder_.end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override { begin(mark, anchor, Json::object()); }
  void OnMapEnd() override { builder_.end(); }

  [[nodiscard]] Json& result() { return builder_.result(); }
  [[nodiscard]] int line() const { return line_; }

 private:
  void see(const YAML::Mark& mark, YAML::anchor_t anchor) {
    line_ = mark.line + 1;
    if (anchor != YAML::NullAnchor) throw Refusal{"anchors are not read; write the features out"};
  }
  void begin(const YAML::Mark& mark, YAML::anchor_t anchor, Json empty) {
    see(mark, anchor);
    if (builder_.wants_name()) throw Refusal{"the name of a group is a list or a map"};
    builder_.begin(std::move(empty));
  }

  Builder builder_;
  int line_ = 1;
  bool started_ = false;
};

// The parser's words, and what people get wrong most.
std::string yaml_reason(const std::string& text, const YAML::Exception& error) {
  const std::string reason = base::to_valid_utf8(error.msg);
  if (text.find("\n\t") != std::string::npos || text.starts_with('\t')) return reason + "; YAML is indented by spaces, not tabs";
  if (reason.find("sequence flow") != std::string::npos) return "a list is not closed: '[' without ']'";
  if (reason.find("map flow") != std::string::npos) return "a group is not closed: '{' without '}'";
  return reason;
}

Result<Json> groups_of_yaml(const std::string& text) {
  YamlEvents events;
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(events)) {
    }
  } catch (const Refusal& refusal) {
    return base::fail("line {}: {}", events.line(), refusal.what);
  } catch (const YAML::Exception& error) {
    return base::fail("line {}: {}", error.mark.line + 1, yaml_reason(text, error));
  }
  if (events.result().is_null()) return base::fail("the file names no groups");
  return std::move(events.result());
}

#else

Result<Json> groups_of_yaml(const std::string&) { return base::refuse("this build reads groups from JSON only; yaml-cpp was not there when it was made"); }

#endif

}  // namespace

Result<Json> read_groups(const base::fs::path& path) {
  auto text = base::read_file(path, kLargestFile);
  if (!text) return base::pass(text);
  if (!base::is_utf8(*text)) return base::fail("{}: the file is not UTF-8; save it as UTF-8", path.string());
  const size_t first = text->find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return base::fail("{}: the file is empty", path.string());
  const bool json = path.extension() == ".json" || (path.extension() != ".yaml" && path.extension() != ".yml" && (*text)[first] == '{');
  auto groups = json ? groups_of_json(*text) : groups_of_yaml(*text);
  if (!groups) return base::within(path.string(), groups.error());
  return groups;
}

}  // namespace deepseek::explain
