// Attribution beside its peers: one command a line on standard input, one JSON object a line on standard output.
//   tree MODEL ROWS OUT                     values of a tree ensemble; ROWS and OUT hold f64 numbers
//   interactions MODEL ROWS OUT
//   interventional MODEL ROWS BACKGROUND OUT
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/files.h"
#include "explain/tree_shap/tree_shap.h"

namespace {

using namespace deepseek;
using Clock = std::chrono::steady_clock;

template <typename T>
T sure(base::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

std::vector<double> numbers(const std::string& path) {
  const std::string bytes = sure(base::read_file(path));
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
  return values;
}

nlohmann::json run(const std::string& line, int threads) {
  std::istringstream words(line);
  std::string command, model_path, rows_path, background_path, out_path;
  words >> command >> model_path >> rows_path;
  if (command == "interventional") words >> background_path;
  words >> out_path;
  const auto model = sure(explain::read_tree_ensemble(model_path));
  const auto rows = numbers(rows_path), background = background_path.empty() ? std::vector<double>() : numbers(background_path);
  std::vector<double> values;
  const auto begin = Clock::now();
  if (command == "tree") values = explain::tree_shap(model, rows, threads).values;
  else if (command == "interactions") values = explain::tree_shap_interactions(model, rows, threads);
  else if (command == "interventional") values = explain::interventional_tree_shap(model, rows, background, threads).values;
  else throw std::runtime_error("unknown command " + line);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (auto ok = base::write_file_atomically(out_path, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)}); !ok) throw std::runtime_error(ok.error().message);
  return {{"seconds", seconds}, {"values", values.size()}};
}

}  // namespace

int main(int argc, char** argv) {
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
