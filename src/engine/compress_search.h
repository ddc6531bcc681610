// auto: which type each group of matrices gets, from what it costs the model's answers. Private to this folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/calibration.h"
#include "engine/compress_plan.h"

namespace deepseek::engine {

/// A matrix in a type: its rows' bytes, and the energy of what changed in its products as a share of the products' own.
struct RoundedMatrix {
  std::vector<std::byte> bytes;
  double error = 0;
};

struct TypeSearchOptions {
  double max_kl = 0;  ///< divergence that all types together may cost on the texts, nats a token
  /// `sample`: only a part of the rows, for the error; no bytes then.
  std::function<base::Result<RoundedMatrix>(const MatrixPlace&, formats::DType, bool sample)> round;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> on_progress;
  std::function<bool()> stop_requested;
};

struct ChosenTypes {
  std::vector<formats::DType> types;  ///< of each place
  std::vector<double> expected;       ///< divergence that its group is expected to cost
};

/// Measures the divergence that the cheapest type of each group costs, expects that of the others from their errors, chooses the fewest bytes
/// within max_kl (choose_candidates()), and checks the choice as a whole.
class TypeSearch {
 public:
  /// model: in plain numbers; it is as it was after run(). places: in the order of its matrices.
  TypeSearch(FusedModel& model, const std::vector<MatrixPlace>& places, const TokenSequences& texts, TypeSearchOptions options)
      : model_(model), places_(places), texts_(texts), options_(std::move(options)) {}
  [[nodiscard]] base::Result<ChosenTypes> run();

 private:
  [[nodiscard]] kernels::PackedMatrix as_plain(size_t index, formats::DType type, const std::vector<std::byte>& bytes) const;
  base::Status each_piece(const std::function<base::Status(std::span<float> logits, int64_t first)>& body);
  base::Result<double> divergence_now();
  base::Result<double> divergence_with(const std::vector<std::pair<size_t, formats::DType>>& changes);
  base::Status candidates_of(int group, std::vector<Candidate>& out);
  void report(const std::string& stage, int64_t done, int64_t total) const {
    if (options_.on_progress) options_.on_progress(stage, done, total);
  }

  FusedModel& model_;
  const std::vector<MatrixPlace>& places_;
  const TokenSequences& texts_;
  TypeSearchOptions options_;
  std::vector<float> reference_;  // logits of the plain model, [tokens][vocab]
};

}  // namespace deepseek::engine
