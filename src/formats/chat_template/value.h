// Values of a template: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace deepseek::formats::jinja {

/// What stops a rendering; the message is for people.
struct Trouble : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr size_t kMaxText = size_t{16} << 20;  // no honest prompt is near these; what would pass them is refused
constexpr size_t kMaxList = 1'000'000;
/// What a rendering may cost, in ticks of about 20 ns: whatever goes through lists and texts spends them, so that one filter
/// over nested lists ends too. Counts for the rendering that runs on this thread; without one spending is free.
class Budget {
 public:
  explicit Budget(int64_t ticks);
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

 private:
  int64_t* before_;
  int64_t left_;
};
/// Throws Trouble where nothing is left.
void spend(size_t ticks);
void check_text(size_t size);
void check_list(size_t size);

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion
struct Arguments {
  std::vector<Value> positional;
  Dict named;
};
using Function = std::function<Value(const Arguments&)>;
struct Undefined {
  std::string name;
};
struct None {};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<List>, std::shared_ptr<Dict>, std::shared_ptr<Function>>;
  Value() : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(int value) : data_(static_cast<int64_t>(value)) {}
  Value(size_t value) : data_(static_cast<int64_t>(value)) {}
  Value(double value) : data_(value) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(const char* value) : data_(std::string(value)) {}
  Value(List value) : data_(std::make_shared<List>(std::move(value))) {}
  Value(Dict value) : data_(std::make_shared<Dict>(std::move(value))) {}
  Value(Function value) : data_(std::make_shared<Function>(std::move(value))) {}
  Value(const Value&) = default;
  Value(Value&&) noexcept = default;
  Value& operator=(const Value&) = default;
  Value& operator=(Value&&) noexcept = default;
  ~Value() {
    if (is_last_owner()) release();
  }

  template <typename T>
  [[nodiscard]] bool is() const { return std::holds_alternative<T>(data_); }
  [[nodiscard]] bool is_undefined() const { return is<Undefined>(); }
  [[nodiscard]] bool is_none() const { return is<None>(); }
  [[nodiscard]] bool is_bool() const { return is<bool>(); }
  [[nodiscard]] bool is_int() const { return is<int64_t>(); }
  [[nodiscard]] bool is_number() const { return is_bool() || is_int() || is<double>(); }
  [[nodiscard]] bool is_string() const { return is<std::string>(); }
  [[nodiscard]] bool is_list() const { return is<std::shared_ptr<List>>(); }
  [[nodiscard]] bool is_dict() const { return is<std::shared_ptr<Dict>>(); }
  [[nodiscard]] bool is_function() const { return is<std::shared_ptr<Function>>(); }

  /// Each throws Trouble where the value is of another kind.
  [[nodiscard]] const std::string& string() const;
  [[nodiscard]] List& list() const;
  [[nodiscard]] Dict& dict() const;
  [[nodiscard]] int64_t integer() const;
  [[nodiscard]] double number() const;
  [[nodiscard]] const Function& function() const;
  [[nodiscard]] const std::string& undefined_name() const { return std::get<Undefined>(data_).name; }

  [[nodiscard]] bool truth() const;
  [[nodiscard]] const char* kind() const;
  /// str(value), and repr(value) as it stands inside lists.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string repr() const;
  [[nodiscard]] bool equals(const Value& other) const;
  /// < 0, 0, > 0; throws where Python would.
  [[nodiscard]] int compare(const Value& other) const;
  /// Elements of a list, keys of a dict, characters of a string; none of what is undefined.
  [[nodiscard]] List elements() const;

 private:
  [[nodiscard]] bool is_last_owner() const;
  void release();
  Data data_;
};

[[nodiscard]] Value* find(Dict& dict, const std::string& key);
void set(Dict& dict, const std::string& key, Value value);
[[nodiscard]] Value from_json(const nlohmann::ordered_json& json);
/// json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: on one line.
[[nodiscard]] std::string to_json(const Value& value, int64_t indent, bool sort_keys);
[[nodiscard]] std::vector<std::string> characters(const std::string& text);
[[nodiscard]] size_t count_characters(const std::string& text);
/// std::string::find in linear time whatever the two texts are.
[[nodiscard]] size_t find_text(const std::string& text, const std::string& what, size_t at = 0);

}  // namespace deepseek::formats::jinja
