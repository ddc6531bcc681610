#include "engine/sparsity_plan.h"

#include <algorithm>
#include <array>

#include "engine/fused_model.h"
#include "hardware/team.h"
#include "kernels/elementwise/row.h"
#include "models/decoder/checkpoint.h"

namespace deepseek::engine {
namespace {

using base::Result;

constexpr int64_t kBegins = kernels::SelectionOptions().dense_below, kLeast = 512;  // positions that count in a window, at least
constexpr int64_t kPiece = 64;                                                       // logits held at once
constexpr std::array kLadder{1.0f, 0.99f, 0.98f, 0.97f, 0.95f, 0.93f, 0.9f, 0.87f, 0.83f, 0.78f, 0.7f, 0.6f};  // shares of attention; the first is dense

std::optional<kernels::SelectionOptions> selection_at(size_t rung) {
  if (rung == 0) return std::nullopt;
  return kernels::SelectionOptions{.mode = kernels::SelectionOptions::Mode::kTopP, .top_p = kLadder[rung]};
}
std::string name_at(size_t rung) { return rung == 0 ? "dense" : fmt::format("dsa:top_p={}", kLadder[rung]); }

class Search {
 public:
  Search(FusedModel& model, std::span<const int32_t> ids, const SparsityOptions& options) : model_(model), options_(options) {
    const auto window = static_cast<size_t>(options.window);
    for (size_t at = 0; at < ids.size(); at += window) {
      const auto part = ids.subspan(at, std::min(window, ids.size() - at));
      if (static_cast<int64_t>(part.size()) >= kBegins + kLeast) windows_.push_back(part);
    }
    const auto& sliding = model.config().sliding;
    for (size_t i = 0; i < sliding.size(); ++i) {
      if (!sliding[i]) layers_.push_back({i, std::vector<size_t>(options.heads ? static_cast<size_t>(model.config().num_heads) : 1, 0)});
    }
    dense_.resize(windows_.size());
  }

  Result<SparsityFound> run() {
    for (size_t w = 0; w < windows_.size(); ++w) {
      auto words = best_words(w, "dense");
      if (!words) return base::pass(words);
      dense_[w] = std::move(*words);
    }
    if (auto done = same_for_all(); !done) return base::pass(done);
    if (auto done = one_by_one(); !done) return base::pass(done);
    return found();
  }

 private:
  [[nodiscard]] bool held_out() const { return windows_.size() > 1; }

  // The most probable token after each position of a window with the rungs as they are.
  Result<std::vector<int32_t>> best_words(size_t w, const std::string& now) {
    FusedModel::LayerSelections selections(model_.config().sliding.size());
    for (const auto& [index, rungs] : layers_) {
      std::vector<std::optional<kernels::SelectionOptions>> heads;
      for (const size_t rung : rungs) heads.push_back(selection_at(rung));
      selections[index] = kernels::head_selections(heads);
    }
    model_.select(std::move(selections));
    if (options_.on_progress) options_.on_progress(passes_, now);
    ++passes_;
    const auto& ids = windows_[w];
    const int64_t vocabulary = model_.config().vocab_size;
    std::vector<int32_t> words;
    CachedSequence state;
    for (size_t at = 0; at < ids.size(); at += kPiece) {
      if (options_.stop_requested && options_.stop_requested()) {
        model_.truncate(state, 0);
        return base::fail("interrupted; no plan was written");
      }
      // What is not counted needs no logits.
      const auto piece = ids.subspan(at, std::min<size_t>(kPiece, ids.size() - at));
      const bool counts = static_cast<int64_t>(at) >= kBegins;
      const SequenceInput input[] = {{&state, piece, counts}};
      auto logits = model_.forward(input);
      if (!logits) {
        model_.truncate(state, 0);
        return base::pass(logits);
      }
      if (!counts) continue;
      const size_t first = words.size();
      words.resize(first + piece.size());
      auto& team = model_.team();
      team.run([&](int) {
        team.share(static_cast<int64_t>(piece.size()), 1, [&](int64_t i, int64_t) {
          words[first + static_cast<size_t>(i)] = static_cast<int32_t>(kernels::index_of_largest(logits->data() + i * vocabulary, vocabulary));
        });
      });
    }
    model_.truncate(state, 0);
    return words;
  }

  struct Measured {
    double agreement = 1, keys_read = 1;
    int64_t tokens = 0;
  };
  // Over every other window from `first` on.
  Result<Measured> measure(size_t first, const std::string& now) {
    int64_t same = 0;
    Measured out;
    double read = 0;
    size_t count = 0;
    for (size_t w = first; w < windows_.size(); w += held_out() ? 2 : 1) {
      auto words = best_words(w, now);
      if (!words) return base::pass(words);
      for (size_t i = 0; i < words->size(); ++i) same += (*words)[i] == dense_[w][i] ? 1 : 0;
      out.tokens += static_cast<int64_t>(words->size());
      read += model_.share_of_keys_read();
      ++count;
    }
    out.agreement = static_cast<double>(same) / static_cast<double>(out.tokens);
    out.keys_read = read / static_cast<double>(count);
    return out;
  }

  void set_all(size_t rung) {
    for (auto& layer : layers_) std::fill(layer.rungs.begin(), layer.rungs.end(), rung);
  }

  // The smallest share of attention, the same in all layers, that is faithful enough.
  base::Status same_for_all() {
    size_t good = 0, bad = kLadder.size();
    while (bad - good > 1) {
      const size_t middle = (good + bad) / 2;
      set_all(middle);
      auto measured = measure(0, "all layers " + name_at(middle));
      if (!measured) return base::pass(measured);
      (measured->agreement >= options_.min_fidelity ? good : bad) = middle;
    }
    set_all(good);
    return {};
  }

  // Each layer or head goes down the ladder as long as the whole stays faithful.
  base::Status one_by_one() {
    for (auto& layer : layers_) {
      for (size_t h = 0; h < layer.rungs.size(); ++h) {
        size_t& rung = layer.rungs[h];
        while (rung + 1 < kLadder.size()) {
          ++rung;
          const std::string head = options_.heads ? fmt::format(" head {}", h) : "";
          auto measured = measure(0, fmt::format("layer {}{} {}", layer.index, head, name_at(rung)));
          if (!measured) return base::pass(measured);
          if (measured->agreement >= options_.min_fidelity) continue;
          --rung;
          break;
        }
      }
    }
    return {};
  }

  Result<SparsityFound> found() {
    SparsityFound out;
    auto measured = measure(held_out() ? 1 : 0, "what was found");
    if (!measured) return base::pass(measured);
    // The text that the search did not see has the last word.
    const auto reads_all = [](const Layer& layer) { return std::all_of(layer.rungs.begin(), layer.rungs.end(), [](size_t rung) { return rung == 0; }); };
    while (measured->agreement < options_.min_fidelity && !std::all_of(layers_.begin(), layers_.end(), reads_all)) {
      for (auto& layer : layers_) {
        for (auto& rung : layer.rungs) rung -= rung > 0 ? 1 : 0;
      }
      measured = measure(held_out() ? 1 : 0, "a step back");
      if (!measured) return base::pass(measured);
    }
    for (const auto& [index, rungs] : layers_) {
      const bool alike = std::all_of(rungs.begin(), rungs.end(), [&](size_t rung) { return rung == rungs[0]; });
      out.layers.push_back({static_cast<int64_t>(index), {}});
      for (size_t h = 0; h < (alike ? 1 : rungs.size()); ++h) out.layers.back().heads.push_back(name_at(rungs[h]));
    }
    out.agreement = measured->agreement;
    out.keys_read = measured->keys_read;
    out.tokens = measured->tokens;
    out.held_out = held_out();
    out.passes = passes_;
    return out;
  }

  FusedModel& model_;
  const SparsityOptions& options_;
  std::vector<std::span<const int32_t>> windows_;
  struct Layer {
    size_t index;
    std::vector<size_t> rungs;  // where it stands on the ladder: all its heads together, or each
  };
  std::vector<Layer> layers_;  // those without a sliding window
  std::vector<std::vector<int32_t>> dense_;
  int64_t passes_ = 0;
};

}  // namespace

Result<SparsityFound> plan_sparsity(const models::ModelText& text, std::span<const int32_t> ids, const SparsityOptions& options) {
  const auto& c = text.config;
  if (!(options.min_fidelity > 0 && options.min_fidelity <= 1)) return base::refuse("the fidelity lies above 0, up to 1; not {}", options.min_fidelity);
  const int64_t needed = kBegins + kLeast;
  if (c.max_position_embeddings < needed) {
    return base::refuse("this model's context holds {} tokens, and sparse attention begins at {}: there is nothing to plan", c.max_position_embeddings, kBegins);
  }
  if (options.window < needed || options.window > c.max_position_embeddings) {
    return base::refuse("the window is {} tokens; use {} (sparse attention begins at {}) to {}", options.window, needed, kBegins, c.max_position_embeddings);
  }
  if (static_cast<int64_t>(ids.size()) < needed) return base::refuse("the text has {} tokens; {} or more are needed, since sparse attention begins at {}", ids.size(), needed, kBegins);
  for (const int32_t id : ids) {
    if (id < 0 || id >= c.vocab_size) return base::refuse("token {} is outside the vocabulary of {}", id, c.vocab_size);
  }
  if (std::find(c.sliding.begin(), c.sliding.end(), false) == c.sliding.end()) return base::refuse("every layer of this model has a sliding window: there is nothing to plan");
  auto as = pack_as(options.dtype);
  if (!as) return base::pass(as);
  auto checkpoint = models::DecoderCheckpoint::open(text.path, text.gguf);
  if (!checkpoint) return base::pass(checkpoint);
  auto team = std::make_shared<hardware::Team>(options.threads);
  auto weights = pack_checkpoint(*checkpoint, *team, {.as = *as});
  if (!weights) return base::pass(weights);
  auto model = FusedModel::create(std::move(*weights), team, {.cache_tokens = options.window + kernels::kPageTokens, .selection = kernels::SelectionOptions()});
  if (!model) return base::pass(model);
  return Search(**model, ids, options).run();
}

}  // namespace deepseek::engine
