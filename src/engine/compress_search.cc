#include "engine/compress_search.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise/row.h"

namespace deepseek::engine {
namespace {

using base::Result;
using base::Status;
using formats::DType;

constexpr int64_t kSensitivityTokens = 512, kLogitsAtOnce = 64;
const std::vector<DType> kCandidates{DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0};
const std::vector<DType> kSuperCandidates{DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kQ8_0};  // where 256 columns share scales

}  // namespace

// A rounded matrix as the reference model can run it.
kernels::PackedMatrix TypeSearch::as_plain(size_t index, DType type, const std::vector<std::byte>& bytes) const {
  const MatrixPlace& place = places_[index];
  kernels::PackedMatrix out(std::as_const(model_).weights().matrices()[index]->format(), place.rows, place.columns);
  const uint64_t row_bytes = bytes.size() / static_cast<size_t>(place.rows);
  model_.team().run([&](int) {
    model_.team().share(out.tiles(), 16, [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(place.columns));
      for (int64_t r = begin * kernels::kTileRows; r < std::min(end * kernels::kTileRows, place.rows); ++r) {
        const std::span<const std::byte> from(bytes.data() + static_cast<size_t>(r) * row_bytes, row_bytes);
        if (formats::dequantize({place.module, type, {place.columns}, from, 0}, row)) out.set_row(r, row);
      }
    });
  });
  return out;
}

// Logits of the tokens that sensitivity is measured on, in pieces.
Status TypeSearch::each_piece(const std::function<Status(std::span<float> logits, int64_t first)>& body) {
  int64_t first = 0;
  for (const auto& text : texts_) {
    CachedSequence state;
    Status status;
    for (size_t at = 0; at < text.size() && first < kSensitivityTokens && status; at += kLogitsAtOnce) {
      const auto piece = std::span(text).subspan(at, std::min<size_t>(kLogitsAtOnce, text.size() - at));
      const SequenceInput input[] = {{&state, piece, true}};
      auto logits = model_.forward(input);
      status = logits ? body(*logits, first) : Status(base::pass(logits));
      first += static_cast<int64_t>(piece.size());
      if (options_.stop_requested && options_.stop_requested()) status = base::fail("interrupted; nothing was written");
    }
    model_.truncate(state, 0);
    if (!status) return status;
  }
  return {};
}

Result<double> TypeSearch::divergence_now() {
  const int64_t vocabulary = model_.config().vocab_size;
  double sum = 0;
  int64_t count = 0;
  auto done = each_piece([&](std::span<float> logits, int64_t first) -> Status {
    const auto rows = static_cast<int64_t>(logits.size()) / vocabulary;
    std::vector<double> each(static_cast<size_t>(rows));
    model_.team().run([&](int) {
      model_.team().share(rows, 1, [&](int64_t begin, int64_t) {
        each[static_cast<size_t>(begin)] = kernels::divergence_row(reference_.data() + (first + begin) * vocabulary, logits.data() + begin * vocabulary, vocabulary);
      });
    });
    for (const double kl : each) sum += kl;
    count += rows;
    return {};
  });
  if (!done) return base::pass(done);
  return sum / static_cast<double>(std::max<int64_t>(count, 1));
}

// The divergence with these matrices rounded and all others as they were.
Result<double> TypeSearch::divergence_with(const std::vector<std::pair<size_t, DType>>& changes) {
  std::vector<std::pair<size_t, kernels::PackedMatrix>> kept;
  Status status;
  for (const auto& [index, type] : changes) {
    auto rounded = options_.round(places_[index], type, false);
    if (!rounded) {
      status = base::pass(rounded);
      break;
    }
    kept.emplace_back(index, as_plain(index, type, rounded->bytes));
  }
  for (auto& [index, matrix] : kept) matrix = model_.exchange(index, std::move(matrix));
  Result<double> kl = status ? divergence_now() : Result<double>(base::pass(status));
  for (auto& [index, matrix] : kept) matrix = model_.exchange(index, std::move(matrix));
  return kl;
}

Result<ChosenTypes> TypeSearch::run() {
  const int groups = places_.back().group + 1;
  if (auto done = each_piece([&](std::span<float> logits, int64_t) -> Status {
        reference_.insert(reference_.end(), logits.begin(), logits.end());
        return {};
      }); !done) return base::pass(done);
  std::vector<std::vector<Candidate>> candidates(static_cast<size_t>(groups));
  for (int g = 0; g < groups; ++g) {
    report("sensitivity", g, groups);
    if (auto done = candidates_of(g, candidates[static_cast<size_t>(g)]); !done) return base::pass(done);
  }
  double target = options_.max_kl;
  ChosenTypes out;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto chosen = choose_candidates(candidates, target);
    out = {};
    std::vector<std::pair<size_t, DType>> changes;
    for (size_t i = 0; i < places_.size(); ++i) {
      const auto group = static_cast<size_t>(places_[i].group);
      const Candidate& choice = candidates[group][chosen[group]];
      out.types.push_back(filled(places_[i], choice.type));
      out.expected.push_back(choice.kl);
      changes.emplace_back(i, out.types.back());
    }
    report("check", attempt, 3);
    auto kl = divergence_with(changes);
    if (!kl) return base::pass(kl);
    if (*kl <= options_.max_kl) break;
    target *= 0.95 * options_.max_kl / *kl;  // groups do not quite add up
  }
  reference_ = {};
  return out;
}

// What each type is expected to cost a group: the divergence of the cheapest one as measured, and by how much others err less.
Status TypeSearch::candidates_of(int group, std::vector<Candidate>& out) {
  std::vector<size_t> members;
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].group == group) members.push_back(i);
  }
  const bool super = std::all_of(members.begin(), members.end(), [&](size_t i) { return fits(places_[i], DType::kQ6_K); });
  for (const DType type : super ? kSuperCandidates : kCandidates) out.push_back({type, 0, 0});
  for (const size_t i : members) {
    for (auto& candidate : out) {
      auto rounded = options_.round(places_[i], filled(places_[i], candidate.type), true);
      if (!rounded) return base::pass(rounded);
      candidate.kl += rounded->error;
      candidate.bytes += bytes_in(places_[i], filled(places_[i], candidate.type));
    }
  }
  std::vector<std::pair<size_t, DType>> changes;
  for (const size_t i : members) changes.emplace_back(i, filled(places_[i], out.front().type));
  auto measured = divergence_with(changes);
  if (!measured) return base::pass(measured);
  const double first = out.front().kl;
  for (auto& candidate : out) candidate.kl = first > 0 ? std::max(*measured, 0.0) * candidate.kl / first : 0.0;
  return {};
}

}  // namespace deepseek::engine
