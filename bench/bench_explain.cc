// Attribution beside its peers: one command a line on standard input, one JSON object a line on standard output.
//   tree MODEL ROWS OUT                     values of a tree ensemble; ROWS and OUT hold f64 numbers
//   interactions MODEL ROWS OUT
//   interventional MODEL ROWS BACKGROUND OUT
//   attribute MODEL FEATURES ROWS BACKGROUND ENGINE BUDGET SEED OUT     values of the features [rows, features] of any model, by an engine of explainer.h
//   score MODEL ROWS OUT                    scores of a tree ensemble
//   estimate TABLE BUDGET SEED OUT          Shapley values, then half widths of their intervals, of the game whose 2^n coalitions TABLE holds
#include <CLI/CLI.hpp>
#include <bit>
#include <chrono>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "program.h"
#include "base/files.h"
#include "explain/estimate.h"
#include "explain/explainer.h"
#include "explain/scorers/open_model.h"
#include "explain/tree_scorer.h"
#include "explain/tree_shap/tree_shap.h"
#include "base/process.h"

namespace {

using namespace deepseek;
using bench::sure;
using Clock = std::chrono::steady_clock;

std::vector<double> numbers(const std::string& path) {
  const std::string bytes = sure(base::read_file(path));
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
  return values;
}

void write(const std::string& path, const std::vector<double>& values) {
  sure(base::write_file_atomically(path, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)}));
}

nlohmann::json estimate(std::istringstream& words) {
  std::string table_path, out_path;
  explain::EstimateOptions options;
  words >> table_path >> options.budget >> options.seed >> out_path;
  const auto table = numbers(table_path);
  explain::FunctionGame game(std::countr_zero(table.size()), [&](std::span<const uint8_t> coalition) {
    size_t index = 0;
    for (size_t i = 0; i < coalition.size(); ++i) index |= static_cast<size_t>(coalition[i]) << i;
    return table[index];
  });
  const auto begin = Clock::now();
  auto result = sure(explain::estimate_shapley(game, options));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.values.insert(result.values.end(), result.half_width.begin(), result.half_width.end());
  write(out_path, result.values);
  return {{"seconds", seconds}, {"asked", result.asked}, {"exact", result.exact}};
}

nlohmann::json attribute(std::istringstream& words, int threads) {
  std::string model_path, rows_path, background_path, engine, out_path;
  explain::ExplainOptions options{.background = 1 << 20, .pairs = 0, .threads = threads};
  size_t features = 0;
  words >> model_path >> features >> rows_path >> background_path >> engine >> options.budget >> options.seed >> out_path;
  std::vector<std::string> names;
  explain::ScorerOptions scorer;
  for (size_t j = 0; j < features; ++j) {
    names.push_back(fmt::format("x{}", j));
    scorer.features.push_back({.name = names.back()});
  }
  options.engine = sure(explain::engine_named(engine));
  const auto rows = numbers(rows_path);
  const auto explainer = sure(explain::Explainer::create(sure(explain::open_table_model(model_path, scorer)), explain::flat_tree(names), numbers(background_path), options));
  std::vector<double> values;
  int64_t asked = 0;
  const auto begin = Clock::now();
  for (size_t r = 0; r * features < rows.size(); ++r) {
    const auto local = sure(explainer.explain(std::span(rows).subspan(r * features, features)));
    values.insert(values.end(), local.values.begin() + 1, local.values.end());
    asked += local.asked;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  write(out_path, values);
  return {{"seconds", seconds}, {"asked", asked}};
}

nlohmann::json run(const std::string& line, int threads) {
  std::istringstream words(line);
  std::string command, model_path, rows_path, background_path, out_path;
  words >> command;
  if (command == "estimate") return estimate(words);
  if (command == "attribute") return attribute(words, threads);
  words >> model_path >> rows_path;
  if (command == "interventional") words >> background_path;
  words >> out_path;
  const auto model = sure(explain::read_tree_ensemble(model_path));
  const auto rows = numbers(rows_path), background = background_path.empty() ? std::vector<double>() : numbers(background_path);
  std::vector<double> values;
  const explain::TreeScorer scorer(std::make_shared<const explain::TreeEnsemble>(model));
  const auto begin = Clock::now();
  if (command == "score") values = scorer(rows, threads);
  else if (command == "tree") values = explain::tree_shap(model, rows, threads).values;
  else if (command == "interactions") values = explain::tree_shap_interactions(model, rows, threads);
  else if (command == "interventional") values = explain::interventional_tree_shap(model, rows, background, threads).values;
  else throw std::runtime_error("unknown command " + line);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  write(out_path, values);
  return {{"seconds", seconds}, {"values", values.size()}};
}

}  // namespace

int main(int argc, char** argv) {
  deepseek::base::restart_with_brief_spin(argv);
  CLI::App app{"times attribution"};
  int threads = 0;
  app.add_option("--threads", threads, "0: all");
  CLI11_PARSE(app, argc, argv);
  try {
    std::cout << nlohmann::json{{"threads", threads}} << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      if (line == "quit") {
        std::cout << nlohmann::json::object() << std::endl;
        break;
      }
      std::cout << run(line, threads) << std::endl;
    }
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
