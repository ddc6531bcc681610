#include "engine/fused_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/elementwise/row.h"
#include "kernels/simd.h"

namespace deepseek::engine {
namespace {

using kernels::kPageTokens;
using kernels::kTileRows;
using kernels::PackedRows;

template <typename T>
void grow(std::vector<T>& values, int64_t size) {
  if (values.size() < static_cast<size_t>(size)) values.resize(static_cast<size_t>(size));
}

constexpr int64_t kScoredTiles = 64;  // 1,024 words of 512 tokens: 2 MiB that do not leave the cache

void soften(float* x, float cap, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

}  // namespace

base::Result<std::unique_ptr<FusedModel>> FusedModel::create(PackedWeights weights, std::shared_ptr<hardware::Team> team, const Options& options) {
  std::unique_ptr<FusedModel> model(new FusedModel(std::move(weights), std::move(team)));
  const auto& c = model->config();
  const std::pair<const kernels::MatmulKernel**, kernels::PackedFormat> choices[] = {
      {&model->integer_kernel_, kernels::packed_formats::kQ8_0}, {&model->bf16_kernel_, kernels::packed_formats::kBF16},
      {&model->f32_kernel_, kernels::packed_formats::kF32}};
  for (const auto& [to, format] : choices) {
    auto chosen = kernels::choose_matmul(format);
    if (!chosen) return base::pass(chosen);
    *to = *chosen;
  }
  model->attention_kernel_ = &kernels::choose_attention();
  auto pool = kernels::KvPool::create(c.num_layers, c.num_kv_heads, c.head_dim, (options.cache_tokens + kPageTokens - 1) / kPageTokens, options.cache_type, options.selection.has_value());
  if (!pool) return base::pass(pool);
  model->pool_ = std::move(*pool);
  model->select(LayerSelections(static_cast<size_t>(c.num_layers), kernels::head_selections({&options.selection, 1})));
  model->embedding_scale_ = static_cast<float>(c.embedding_scale);
  // Transformers rounds the factor to the type of the embedding.
  if (model->weights_.embedding.format().bits == 16) model->embedding_scale_ = kernels::bf16_to_f32(kernels::f32_to_bf16(model->embedding_scale_));
  model->frequencies_[0] = models::rope_frequencies(c.rope, c.head_dim);
  model->frequencies_[1] = models::rope_frequencies(c.rope_sliding, c.head_dim);

  // Which kinds of activations each product needs.
  const auto need = [](std::vector<PackedRows>& rows, const kernels::PackedMatrix& w) {
    const auto kind = PackedRows::kind_for(w.format());
    if (std::any_of(rows.begin(), rows.end(), [&](const auto& r) { return r.kind() == kind; })) return;
    rows.emplace_back().resize(kind, 1, w.columns());
  };
  need(model->last_, model->weights_.head());
  for (const auto& layer : model->weights_.layers) {
    for (const auto* linear : {&layer.q, &layer.k, &layer.v, &layer.gate, &layer.up}) need(model->normed_, linear->weight);
    need(model->heads_, layer.o.weight);
    need(model->inner_, layer.down.weight);
  }
  int64_t scratch = 0;
  for (const auto* matrix : model->weights_.matrices()) scratch = std::max(scratch, kernels::matmul_scratch_bytes(*matrix));
  model->scratch_.resize(static_cast<size_t>(model->team_->size()));
  model->words_.resize(model->scratch_.size());
  for (auto& bytes : model->scratch_) bytes = hardware::allocate_huge(static_cast<size_t>(scratch));
  return model;
}

std::string FusedModel::kernels() const {
  std::string names = integer_kernel_->name;
  for (const char* other : {bf16_kernel_->name, attention_kernel_->name}) {
    if (names.find(other) == std::string::npos) names += std::string(", ") + other;
  }
  return names;
}

void FusedModel::truncate(CachedSequence& sequence, int64_t length) {
  sequence.length = std::clamp<int64_t>(length, 0, sequence.length);
  const auto keep = static_cast<size_t>((sequence.length + kPageTokens - 1) / kPageTokens);
  for (; sequence.pages.size() > keep; sequence.pages.pop_back()) pool_.give_back(sequence.pages.back());
}

base::Status FusedModel::run(std::span<const SequenceInput> inputs, Purpose purpose) {
  if (auto ready = prepare(inputs, purpose); !ready) return ready;
  const std::function<void(int)> body = [this](int thread) { pass(thread); };
  team_->run(body);
  for (const auto& input : inputs) input.sequence->length += static_cast<int64_t>(input.tokens.size());
  return {};
}

base::Result<std::span<float>> FusedModel::forward(std::span<const SequenceInput> inputs) {
  if (auto done = run(inputs, Purpose::kLogits); !done) return tl::make_unexpected(done.error());
  return std::span<float>(logits_.data(), static_cast<size_t>(logit_rows_ * config().vocab_size));
}

base::Result<std::span<const float>> FusedModel::losses(std::span<const SequenceInput> inputs) {
  if (auto done = run(inputs, Purpose::kLosses); !done) return tl::make_unexpected(done.error());
  return std::span<const float>(losses_.data(), static_cast<size_t>(tokens_));
}

base::Status FusedModel::read(std::span<const SequenceInput> inputs) { return run(inputs, Purpose::kInputs); }

base::Status FusedModel::prepare(std::span<const SequenceInput> inputs, Purpose purpose) {
  purpose_ = purpose;
  const bool losses = purpose == Purpose::kLosses;
  const auto& c = config();
  int64_t pages = 0, tokens = 0;
  for (const auto& input : inputs) {
    const auto count = static_cast<int64_t>(input.tokens.size());
    if (count == 0) return base::refuse("a sequence was given no tokens");
    for (const int32_t id : input.tokens) {
      if (id < 0 || id >= c.vocab_size) return base::refuse("token {} is outside the vocabulary of {}", id, c.vocab_size);
    }
    if (losses && input.targets.size() != input.tokens.size()) return base::refuse("{} targets for {} tokens", input.targets.size(), count);
    for (const int32_t id : input.targets) {
      if (id < -1 || id >= c.vocab_size) return base::refuse("target {} is outside the vocabulary of {}", id, c.vocab_size);
    }
    tokens += count;
    pages += (input.sequence->length + count + kPageTokens - 1) / kPageTokens - static_cast<int64_t>(input.sequence->pages.size());
  }
  if (tokens == 0 || tokens > kMostTokens) return base::refuse("a pass takes 1 to {} tokens, not {}", kMostTokens, tokens);
  if (pages > pool_.free_pages()) {
    return base::fail("the cache is full: {} more tokens need {} pages of {}, and {} are free", tokens, pages, kPageTokens, pool_.free_pages());
  }
  tokens_ = tokens;
  ids_.clear();
  positions_.clear();
  page_of_.clear();
  logit_tokens_.clear();
  sequences_.clear();
  targets_.clear();
  for (const auto& input : inputs) {
    if (losses) targets_.insert(targets_.end(), input.targets.begin(), input.targets.end());
    auto& sequence = *input.sequence;
    const auto row = static_cast<int64_t>(ids_.size()), count = static_cast<int64_t>(input.tokens.size());
    while (static_cast<int64_t>(sequence.pages.size()) * kPageTokens < sequence.length + count) sequence.pages.push_back(*pool_.take());
    for (int64_t t = 0; t < count; ++t) {
      const int64_t position = sequence.length + t;
      ids_.push_back(input.tokens[static_cast<size_t>(t)]);
      positions_.push_back(position);
      page_of_.push_back(sequence.pages[static_cast<size_t>(position / kPageTokens)]);
      if (purpose != Purpose::kLogits || input.all_logits || t + 1 == count) logit_tokens_.push_back(row + t);
    }
    sequences_.push_back({sequence.pages, sequence.length, count, row});
  }
  logit_rows_ = static_cast<int64_t>(logit_tokens_.size());

  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim, half = c.head_dim / 2;
  grow(residual_, tokens * c.hidden_size);
  grow(hidden_, tokens * c.hidden_size);
  grow(q_, tokens * q);
  grow(attended_, tokens * q);
  grow(k_, tokens * kv);
  grow(v_, tokens * kv);
  grow(gate_, tokens * c.intermediate_size);
  grow(up_, tokens * c.intermediate_size);
  if (losses) {
    grow(losses_, tokens);
    for (auto& words : words_) grow(words, tokens * kScoredTiles * kTileRows);
    grow(softmax_, (weights_.head().tiles() + kScoredTiles - 1) / kScoredTiles * tokens);
  } else if (purpose == Purpose::kLogits) {
    grow(logits_, logit_rows_ * c.vocab_size);
  }
  const auto resize = [this](std::vector<PackedRows>& rows, int64_t count) {
    for (auto& r : rows) r.resize(r.kind(), count, r.columns(), kernel_for(r.kind()).width);
  };
  resize(normed_, tokens);
  resize(heads_, tokens);
  resize(inner_, tokens);
  resize(last_, logit_rows_);
  const float softcap = static_cast<float>(c.attention_softcap), scale = static_cast<float>(c.attention_scale);
  const bool slides = std::find(c.sliding.begin(), c.sliding.end(), true) != c.sliding.end();
  for (size_t i = 0; i < selections_.size(); ++i) {
    attention_[i].plan(sequences_, pool_, {c.num_heads, scale, softcap, 0, selections_[i]}, team_->size());
  }
  if (slides) attention_.back().plan(sequences_, pool_, {c.num_heads, scale, softcap, c.sliding_window, {}}, team_->size());
  for (int kind = 0; kind < (slides ? 2 : 1); ++kind) {
    grow(cosines_[kind], tokens * half);
    grow(sines_[kind], tokens * half);
  }
  return {};
}

void FusedModel::pack(std::vector<PackedRows>& rows, int64_t token, const float* values, int64_t layer, Input input) {
  for (auto& r : rows) r.set(token, values);
  if (watcher_) watcher_(layer, input, token, {values, static_cast<size_t>(rows.front().columns())});
}

kernels::PackedMatrix FusedModel::exchange(size_t index, kernels::PackedMatrix matrix) {
  std::swap(*weights_.matrices()[index], matrix);
  return matrix;
}

const PackedRows& FusedModel::rows_for(const std::vector<PackedRows>& rows, const kernels::PackedFormat& format) {
  const auto kind = PackedRows::kind_for(format);
  for (const auto& r : rows) {
    if (r.kind() == kind) return r;
  }
  return rows.front();
}

const kernels::MatmulKernel& FusedModel::kernel_for(PackedRows::Kind kind) const {
  return *(kind == PackedRows::Kind::kInt8 ? integer_kernel_ : kind == PackedRows::Kind::kBF16 ? bf16_kernel_ : f32_kernel_);
}

// All tiles of all products are one pool of work.
void FusedModel::multiply(std::span<const Product> products, std::vector<PackedRows>& inputs, int thread) {
  int64_t tiles = 0;
  for (const auto& product : products) tiles += product.linear->weight.tiles();
  const int64_t piece = std::clamp<int64_t>(tiles / (team_->size() * 8), 1, 64);
  team_->share(tiles, piece, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const auto& product : products) {
      const auto& w = product.linear->weight;
      const int64_t from = std::max(begin, first), to = std::min(end, first + w.tiles());
      if (from < to) {
        const PackedRows& x = rows_for(inputs, w.format());
        kernel_for(w.format()).multiply(w, x, from - first, to - first, product.out, product.stride, scratch_of(thread));
        const auto& bias = product.linear->bias;
        const int64_t row = (from - first) * kTileRows, rows = std::min((to - first) * kTileRows, w.rows()) - row;
        for (int64_t t = 0; !bias.empty() && t < x.tokens(); ++t) kernels::add_row(product.out + t * product.stride + row, bias.data() + row, rows);
      }
      first += w.tiles();
    }
  });
}

// Norm of each head and rotation of q and k, and the new keys and values into the cache.
void FusedModel::place_keys(int64_t index, int64_t token) {
  const auto& c = config();
  const PackedLayer& layer = weights_.layers[static_cast<size_t>(index)];
  const int64_t dim = c.head_dim, half = dim / 2;
  const int kind = c.sliding[static_cast<size_t>(index)] ? 1 : 0;
  const float *cosine = cosines_[kind].data() + token * half, *sine = sines_[kind].data() + token * half;
  const auto eps = static_cast<float>(c.rms_norm_eps);
  for (int64_t h = 0; h < c.num_heads + c.num_kv_heads; ++h) {
    const bool query = h < c.num_heads;
    float* x = query ? q_.data() + (token * c.num_heads + h) * dim : k_.data() + (token * c.num_kv_heads + h - c.num_heads) * dim;
    if (c.qk_norm) kernels::norm_row(x, query ? layer.q_norm.data() : layer.k_norm.data(), eps, x, dim);
    kernels::rotate_row(x, cosine, sine, x, half);
  }
  const int64_t position = positions_[static_cast<size_t>(token)];
  for (int64_t h = 0; h < c.num_kv_heads; ++h) {
    const int64_t at = (token * c.num_kv_heads + h) * dim;
    pool_.store(index, h, page_of_[static_cast<size_t>(token)], position % kPageTokens, k_.data() + at, v_.data() + at);
  }
}

void FusedModel::attend(int64_t index, int thread) {
  const bool slides = config().sliding[static_cast<size_t>(index)];
  auto& attention = attention_[attention_of_layer_[static_cast<size_t>(index)]];
  const auto each = [&](int64_t count, const auto& body) {
    if (count == 0) return;  // every thread knows it: no barrier
    team_->share(count, 1, [&](int64_t begin, int64_t) { body(begin); });
  };
  each(attention.summaries(), [&](int64_t i) { attention.summarise(i, pool_, index); });
  each(attention.estimates(), [&](int64_t i) { attention.estimate(i, *attention_kernel_, pool_, index, q_.data()); });
  each(attention.choices(), [&](int64_t i) { attention.choose(i); });
  each(attention.items(), [&](int64_t i) {
    const kernels::TileCount count = attention.run(i, *attention_kernel_, pool_, index, q_.data(), attended_.data());
    if (!slides) tiles_[static_cast<size_t>(thread)][static_cast<size_t>(index)].add(count);
  });
  each(attention.merges(), [&](int64_t i) { attention.merge(i, attended_.data()); });
}

void FusedModel::select(LayerSelections selections) {
  const auto& sliding = config().sliding;
  selections_.clear();
  attention_of_layer_.assign(sliding.size(), 0);
  for (size_t i = 0; i < sliding.size(); ++i) {
    if (sliding[i]) continue;
    const auto same = std::find(selections_.begin(), selections_.end(), selections[i]);
    attention_of_layer_[i] = static_cast<size_t>(same - selections_.begin());
    if (same == selections_.end()) selections_.push_back(selections[i]);
  }
  for (size_t i = 0; i < sliding.size(); ++i) {
    if (sliding[i]) attention_of_layer_[i] = selections_.size();
  }
  attention_.resize(selections_.size() + 1);
  tiles_.assign(static_cast<size_t>(team_->size()), std::vector<kernels::TileCount>(sliding.size()));
}

std::vector<AttentionReads> FusedModel::attention_reads() const {
  std::vector<AttentionReads> out;
  const auto& sliding = config().sliding;
  for (size_t layer = 0; layer < sliding.size(); ++layer) {
    if (sliding[layer]) continue;
    kernels::TileCount all;
    for (const auto& of_thread : tiles_) all.add(of_thread[layer]);
    out.push_back({static_cast<int64_t>(layer), all.share_read(), all.mass_kept()});
  }
  return out;
}

double FusedModel::share_of_keys_read() const {
  kernels::TileCount all;
  for (const auto& of_thread : tiles_) {
    for (const auto& of_layer : of_thread) all.add(of_layer);
  }
  return all.share_read();
}

void FusedModel::layer(int64_t index, int thread) {
  const auto& c = config();
  const PackedLayer& layer = weights_.layers[static_cast<size_t>(index)];
  const int64_t width = c.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim, inner = c.intermediate_size;
  const auto eps = static_cast<float>(c.rms_norm_eps);
  const auto each_token = [&](const auto& body) {
    team_->share(tokens_, std::max<int64_t>(1, tokens_ / (team_->size() * 8)), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) body(t);
    });
  };
  const Product queries[] = {{&layer.q, q_.data(), q}, {&layer.k, k_.data(), kv}, {&layer.v, v_.data(), kv}};
  multiply(queries, normed_, thread);
  each_token([&](int64_t t) { place_keys(index, t); });
  attend(index, thread);
  each_token([&](int64_t t) { pack(heads_, t, attended_.data() + t * q, index, Input::kOutput); });
  const Product output[] = {{&layer.o, hidden_.data(), width}};
  multiply(output, heads_, thread);
  each_token([&](int64_t t) {
    float *x = residual_.data() + t * width, *y = hidden_.data() + t * width;
    if (c.post_norms) kernels::norm_row(y, layer.post_attention_norm.data(), eps, y, width);
    kernels::add_row(x, y, width);
    kernels::norm_row(x, (c.post_norms ? layer.pre_feedforward_norm : layer.post_attention_norm).data(), eps, y, width);
    pack(normed_, t, y, index, Input::kFeedForward);
  });
  const Product gates[] = {{&layer.gate, gate_.data(), inner}, {&layer.up, up_.data(), inner}};
  multiply(gates, normed_, thread);
  each_token([&](int64_t t) {
    float* gate = gate_.data() + t * inner;
    kernels::glu_row(gate, up_.data() + t * inner, c.gelu, gate, inner);
    pack(inner_, t, gate, index, Input::kDown);
  });
  const Product down[] = {{&layer.down, hidden_.data(), width}};
  multiply(down, inner_, thread);
  const bool last = index + 1 == c.num_layers;
  each_token([&](int64_t t) {
    float *x = residual_.data() + t * width, *y = hidden_.data() + t * width;
    if (c.post_norms) kernels::norm_row(y, layer.post_feedforward_norm.data(), eps, y, width);
    kernels::add_row(x, y, width);
    if (last) return;
    kernels::norm_row(x, weights_.layers[static_cast<size_t>(index + 1)].input_norm.data(), eps, y, width);
    pack(normed_, t, y, index + 1, Input::kAttention);
  });
}

void FusedModel::pass(int thread) {
  const auto& c = config();
  const int64_t width = c.hidden_size, half = c.head_dim / 2;
  const auto eps = static_cast<float>(c.rms_norm_eps);
  team_->share(tokens_, 1, [&](int64_t begin, int64_t) {
    const int64_t t = begin;
    float *x = residual_.data() + t * width, *y = hidden_.data() + t * width;
    weights_.embedding.row(ids_[static_cast<size_t>(t)], {x, static_cast<size_t>(width)});
    for (int64_t i = 0; embedding_scale_ != 1.0f && i < width; ++i) x[i] *= embedding_scale_;
    kernels::norm_row(x, weights_.layers[0].input_norm.data(), eps, y, width);
    pack(normed_, t, y, 0, Input::kAttention);
    for (int kind = 0; kind < 2; ++kind) {
      if (cosines_[kind].empty()) continue;
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions_[static_cast<size_t>(t)]) * frequencies_[kind][static_cast<size_t>(i)];
        cosines_[kind][static_cast<size_t>(t * half + i)] = std::cos(angle);
        sines_[kind][static_cast<size_t>(t * half + i)] = std::sin(angle);
      }
    }
  });
  for (int64_t i = 0; i < c.num_layers; ++i) layer(i, thread);
  team_->share(logit_rows_, 1, [&](int64_t begin, int64_t) {
    float* y = hidden_.data() + begin * width;
    kernels::norm_row(residual_.data() + logit_tokens_[static_cast<size_t>(begin)] * width, weights_.final_norm.data(), eps, y, width);
    pack(last_, begin, y, c.num_layers, Input::kHead);
  });
  if (purpose_ == Purpose::kLosses) score(thread);
  if (purpose_ == Purpose::kLogits) logits(thread);
}

void FusedModel::logits(int thread) {
  const auto& c = config();
  const kernels::PackedMatrix& head = weights_.head();
  team_->share(head.tiles(), 64, [&](int64_t begin, int64_t end) {
    kernel_for(head.format()).multiply(head, last_.front(), begin, end, logits_.data(), c.vocab_size, scratch_of(thread));
    if (c.final_softcap <= 0) return;
    const int64_t row = begin * kTileRows, rows = std::min(end * kTileRows, head.rows()) - row;
    for (int64_t t = 0; t < logit_rows_; ++t) soften(logits_.data() + t * c.vocab_size + row, static_cast<float>(c.final_softcap), rows);
  });
}

void FusedModel::score(int thread) {
  const auto& c = config();
  const kernels::PackedMatrix& head = weights_.head();
  constexpr int64_t kWords = kScoredTiles * kTileRows;
  team_->share(head.tiles(), kScoredTiles, [&](int64_t begin, int64_t end) {
    float* words = words_[static_cast<size_t>(thread)].data();
    const int64_t row = begin * kTileRows, rows = std::min(end * kTileRows, head.rows()) - row;
    // The kernel writes at out + row: the rows of this piece begin at `words`.
    kernel_for(head.format()).multiply(head, last_.front(), begin, end, words - row, kWords, scratch_of(thread));
    for (int64_t t = 0; t < tokens_; ++t) {
      float* x = words + t * kWords;
      if (c.final_softcap > 0) soften(x, static_cast<float>(c.final_softcap), rows);
      Softmax& state = softmax_[static_cast<size_t>(begin / kScoredTiles * tokens_ + t)];
      state.best = kernels::largest(x, rows);
      state.sum = kernels::sum_of_exponentials(x, state.best, rows);
      state.target = 0;
      const int64_t target = targets_[static_cast<size_t>(t)] - row;
      if (target >= 0 && target < rows) state.target = x[target];
    }
  });
  if (thread != 0) return;
  const int64_t pieces = (head.tiles() + kScoredTiles - 1) / kScoredTiles;
  for (int64_t t = 0; t < tokens_; ++t) {
    const auto piece = [&](int64_t p) -> const Softmax& { return softmax_[static_cast<size_t>(p * tokens_ + t)]; };
    float best = -std::numeric_limits<float>::infinity(), target = 0;
    double sum = 0;
    for (int64_t p = 0; p < pieces; ++p) best = std::max(best, piece(p).best);
    for (int64_t p = 0; p < pieces; ++p) {
      sum += static_cast<double>(piece(p).sum) * std::exp(static_cast<double>(piece(p).best - best));
      target += piece(p).target;  // one piece holds it
    }
    losses_[static_cast<size_t>(t)] = targets_[static_cast<size_t>(t)] < 0 ? 0.0f : static_cast<float>(best + std::log(sum) - target);
  }
}

}  // namespace deepseek::engine
