#include "formats/weights/quantize.h"

#include <algorithm>
#include <cmath>

#include "formats/weights/convert.h"

// Sanitizers instrument before the resolver may run.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define DEEPSEEK_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPSEEK_CLONES
#endif

namespace deepseek::formats {
namespace {

constexpr int kLanes = 16;         // every run is a multiple of it
constexpr float kRound = 12582912.0f;  // adding and subtracting 1.5 * 2^23 rounds to the nearest integer
constexpr float kLargestHalf = 65504.0f;

// A scale in f16, and what it is worth then.
uint16_t half(float value) { return f32_to_f16(std::clamp(value, -kLargestHalf, kLargestHalf)); }

float sum_of(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// What least squares needs to know of levels q of x under weights w.
struct Moments {
  float q = 0, qq = 0, xq = 0;
};

// Levels clamp(round((x - offset) * inverse), low, high) of n values.
DEEPSEEK_CLONES Moments moments(const float* x, const float* w, int n, float offset, float inverse, float low, float high) {
  float q1[kLanes] = {}, q2[kLanes] = {}, xq[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      float q = (x[i + l] - offset) * inverse;
      q = q < low ? low : q;
      q = q > high ? high : q;
      q = (q + kRound) - kRound;
      const float wq = w[i + l] * q;
      q1[l] += wq;
      q2[l] += wq * q;
      xq[l] += wq * x[i + l];
    }
  }
  return {sum_of(q1), sum_of(q2), sum_of(xq)};
}

struct Line {
  float step = 0, offset = 0;
};

// x ~ step * q with -half <= q < half (not symmetric: one sign reaches one level further, and either may be the longer).
Line fit_symmetric(const float* x, const float* w, int n, int bits) {
  const float half_range = static_cast<float>(1 << (bits - 1));
  float extreme = 0;
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  if (extreme == 0) return {};
  Line best;
  float most = -1;
  const auto attempt = [&](float reach) {  // the level that the extreme value would have
    const float inverse = reach / extreme;
    if (!std::isfinite(inverse)) return;
    const Moments m = moments(x, w, n, 0, inverse, -half_range, half_range - 1);
    if (m.qq <= 0 || m.xq * m.xq <= most * m.qq) return;
    most = m.xq * m.xq / m.qq;  // the squared error falls by this much against all zeros
    best.step = m.xq / m.qq;
  };
  // Beyond 6 bits clipping never pays.
  const int tries = bits > 6 ? 1 : 8;
  for (int k = 0; k < tries; ++k) {
    attempt(-half_range - 0.12f * static_cast<float>(k - tries / 2) * (bits > 4 ? 2.0f : 1.0f));
    attempt(half_range - 1 - 0.12f * static_cast<float>(k - tries / 2) * (bits > 4 ? 2.0f : 1.0f));
  }
  if (most < 0) best.step = extreme / -half_range;  // no weight on anything
  return best;
}

// x ~ offset + step * q with 0 <= q <= top; K types need offset <= 0.
Line fit_line(const float* x, const float* w, int n, int top, bool below_zero) {
  float low = x[0], high = x[0], sw = 0, sx = 0, sxx = 0;
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sw += w[i];
    sx += w[i] * x[i];
    sxx += w[i] * x[i] * x[i];
  }
  if (below_zero) low = std::min(low, 0.0f);
  if (!(high > low)) return {0, low};
  Line best{(high - low) / static_cast<float>(top), low};
  if (sw <= 0) return best;
  float least = INFINITY;
  const auto attempt = [&](float offset, float inverse) {
    const Moments m = moments(x, w, n, offset, inverse, 0, static_cast<float>(top));
    const float determinant = sw * m.qq - m.q * m.q;
    if (!(determinant > 0)) return Line{};
    Line line{(sw * m.xq - sx * m.q) / determinant, (m.qq * sx - m.q * m.xq) / determinant};
    if (below_zero && line.offset > 0) line = {m.qq > 0 ? m.xq / m.qq : 0.0f, 0};
    if (!(line.step > 0)) return Line{};
    const float error = sxx + line.step * line.step * m.qq + line.offset * line.offset * sw - 2 * line.step * m.xq - 2 * line.offset * sx +
                        2 * line.step * line.offset * m.q;
    if (error < least) {
      least = error;
      best = line;
    }
    return line;
  };
  for (int k = -4; k <= 8; ++k) {
    const Line line = attempt(low, (static_cast<float>(top) + 0.15f * static_cast<float>(k)) / (high - low));
    // From where least squares put the line, levels may fall better once more.
    if (line.step > 0) attempt(line.offset, 1.0f / line.step);
  }
  return best;
}

struct Shape {
  int bits, run;
  bool mins, super;
};
Shape shape_of(DType type) {
  switch (type) {
    case DType::kQ4_0: return {4, 32, false, false};
    case DType::kQ4_1: return {4, 32, true, false};
    case DType::kQ5_0: return {5, 32, false, false};
    case DType::kQ5_1: return {5, 32, true, false};
    case DType::kQ4_K: return {4, 32, true, true};
    case DType::kQ5_K: return {5, 32, true, true};
    case DType::kQ6_K: return {6, 16, false, true};
    default: return {8, 32, false, false};  // Q8_0
  }
}

// The fitted scales of a super-block as integers of one f16.
void share_scale(const float* wanted, int count, int least, int most, int8_t* scales, uint16_t& d) {
  float extreme = 0;
  for (int i = 0; i < count; ++i) {
    if (std::abs(wanted[i]) > std::abs(extreme)) extreme = wanted[i];
  }
  // Where there are both signs, the extreme value takes the longer side.
  d = half(extreme / static_cast<float>(least < 0 ? least : most));
  const float unit = f16_to_f32(d);
  for (int i = 0; i < count; ++i) {
    scales[i] = static_cast<int8_t>(unit == 0 ? 0 : std::clamp(std::nearbyint(wanted[i] / unit), static_cast<float>(least), static_cast<float>(most)));
  }
}

}  // namespace

uint8_t BlockGrid::level(int64_t i, float value) const {
  const float s = step[i / run];
  if (s == 0) return 0;
  return static_cast<uint8_t>(std::nearbyint(std::clamp((value - offset[i / run]) / s, 0.0f, static_cast<float>(top))));
}

BlockGrid choose_grid(DType type, const float* values, const float* importance) {
  const Shape shape = shape_of(type);
  const auto elements = static_cast<int>(block_size(type).elements), runs = elements / shape.run;
  BlockGrid grid;
  grid.run = shape.run;
  grid.top = (1 << shape.bits) - 1;
  Line lines[16];
  for (int r = 0; r < runs; ++r) {
    const float *x = values + r * shape.run, *w = importance + r * shape.run;
    lines[r] = shape.mins ? fit_line(x, w, shape.run, grid.top, shape.super) : fit_symmetric(x, w, shape.run, shape.bits);
  }
  QuantFields& f = grid.fields;
  const float zero = static_cast<float>(shape.mins ? 0 : 1 << (shape.bits - 1));
  if (!shape.super) {
    f.d = half(lines[0].step);
    f.dmin = shape.mins ? half(lines[0].offset) : uint16_t{0};
    grid.step[0] = f16_to_f32(f.d);
    grid.offset[0] = shape.mins ? f16_to_f32(f.dmin) : -zero * grid.step[0];
    return grid;
  }
  float steps[16], mins[16];
  for (int r = 0; r < runs; ++r) {
    steps[r] = lines[r].step;
    mins[r] = -lines[r].offset;
  }
  share_scale(steps, runs, shape.mins ? 0 : -128, shape.mins ? 63 : 127, f.scales, f.d);
  if (shape.mins) share_scale(mins, runs, 0, 63, f.mins, f.dmin);
  const float d = f16_to_f32(f.d), dmin = f16_to_f32(f.dmin);
  for (int r = 0; r < runs; ++r) {
    grid.step[r] = d * static_cast<float>(f.scales[r]);
    grid.offset[r] = shape.mins ? -dmin * static_cast<float>(f.mins[r]) : -zero * grid.step[r];
  }
  return grid;
}

void quantize_row(DType type, std::span<const float> values, std::span<const float> importance, std::span<std::byte> out) {
  const auto block = block_size(type);
  float alike[256];
  std::fill(std::begin(alike), std::end(alike), 1.0f);
  for (size_t b = 0; b * static_cast<size_t>(block.elements) < values.size(); ++b) {
    const float* x = values.data() + b * static_cast<size_t>(block.elements);
    BlockGrid grid = choose_grid(type, x, importance.empty() ? alike : importance.data() + b * static_cast<size_t>(block.elements));
    for (int64_t i = 0; i < block.elements; ++i) grid.fields.q[i] = grid.level(i, x[i]);
    write_quant_fields(type, grid.fields, out.data() + b * static_cast<size_t>(block.bytes));
  }
}

}  // namespace deepseek::formats
