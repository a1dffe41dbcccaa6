// The LSTM's arithmetic for one instruction set. Included by lstm.cpp once for each, with LSTM_ISA its namespace,
// LSTM_WIDTH the floats of a vector (4, 8 or 16) and LSTM_AMX 1 where products run on AMX tiles.
//
// With z = w x + u h + b for each gate, Keras's LSTM is
//     i = sigmoid(z_i), f = sigmoid(z_f), g = tanh(z_g), o = sigmoid(z_o);  c' = f c + i g;  h' = o tanh(c').
//
// Columns of gates are kept in "panels": panel p holds the four gates of units p * W ... p * W + W - 1, as 4 W
// consecutive floats in the order i, f, g, o, so that a tile of a product holds all that its units' next states need.

namespace LSTM_ISA {
namespace {

constexpr int W = LSTM_WIDTH;
constexpr int kPanel = 4 * W;

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#include "lstm_vectors.h"
#include "vector_math.h"

// From a row's features to the next row's, where a step's are gathered.
inline size_t row_of_features(int features) { return features == 1 ? 1 : round_up(features, 16); }

// The features of every row of a segment at a step. Infinity becomes NaN, so that it cannot vanish in a saturated gate.
inline void gather(const Problem& problem, const Segment& segment, int t, float* x) {
  const int features = problem.features;
  for (int r = 0; r < segment.rows; ++r, x += row_of_features(features)) {
    const float* from = problem.x + (size_t(segment.order[r]) * problem.steps + t) * features;
    for (int f = 0; f < features; ++f) x[f] = from[f] + 0 * from[f];
  }
}

inline size_t gathered_size(const Problem& problem, int rows) {
  return round_up(rows * row_of_features(problem.features), 16);
}

// The rows of a matrix (rows x 4 H) of weights, panel by panel.
void pack_panels(int H, int rows, const float* m, float* out) {
  for (int p = 0; p < H / W; ++p)
    for (int k = 0; k < rows; ++k)
      for (int gate = 0; gate < 4; ++gate)
        for (int lane = 0; lane < W; ++lane) *out++ = m[size_t(k) * 4 * H + gate * H + p * W + lane];
}

// One row's next states of a panel's units, from z; kept: null, or where the backward pass will look for them.
LSTM_INLINE void cell(const V (&z)[4], float* h, float* c, float* kept) {
  V s[3] = {z[0], z[1], z[3]};
  sigmoid(s);
  const V i = s[0], f = s[1], g = tanh(z[2]), o = s[2];
  const V next = fma(f, load(c), i * g);
  store(c, next);
  store(h, o * tanh(next));
  if (kept) {
    stream(kept, i), stream(kept + W, f), stream(kept + 2 * W, g), stream(kept + 3 * W, o), stream(kept + 4 * W, next);
  }
}

// ---- products ----
//
// Packed weights begin with w and b in panels, 4 H floats for each feature and for b. The rest, and what is below,
// differs between tiles and vectors:
//     pack_operands    right operands: u for the forward pass, or the transposes of u and w for the backward pass,
//                      behind where u would be; operands_size() floats
//     Forward          z = w x + b + u h for all rows, panel by panel
//     Chunk            the gates' gradients of some steps: dh = dz u^T and dx = dz w^T for one step, and dw = x^T dz
//                      and du = h^T dz for all of them, in one product: its left operand has extra_columns() beside
//                      the units', for the features, a 1, and zeros
//
// One feature, a pixel, is not worth a product: z and dx are then computed element by element.

#if LSTM_AMX
#include "tiles.h"
#include "lstm_amx.h"
#define LSTM_DONE TILE_RELEASE
#else
#include "products.h"
#include "lstm_fma.h"
#define LSTM_DONE()
#endif

size_t packed_size(const Problem& problem) {
  return 4 * size_t(problem.units) * (problem.features + 1) + operands_size(problem);
}

void pack(const Problem& problem, const float* w, const float* u, const float* b, bool backward, float* packed) {
  const int H = problem.units, F = problem.features;
  pack_panels(H, F, w, packed);
  pack_panels(H, 1, b, packed + 4 * size_t(H) * F);
  pack_operands(problem, w, u, backward, packed + 4 * size_t(H) * (F + 1));
}

// ---- the two passes ----

size_t forward_scratch(const Problem& problem, int rows) {
  return gathered_size(problem, rows) + Forward::size(problem, rows);
}

void forward(const Problem& problem, const Segment& segment, const float* packed, float* h, float* c, float* kept,
             float* all, float* scratch) {
  const int H = problem.units;
  float* x = scratch;
  std::fill(x, x + gathered_size(problem, segment.rows), 0.0f);
  Forward products(problem, segment.rows, packed, h, scratch + gathered_size(problem, segment.rows));
  for (int t = segment.begin; t < segment.end; ++t) {
    gather(problem, segment, t, x);
    products.step(x, c, kept);
    if (kept) kept += size_t(segment.rows) * H * kKept;
    if (!all) continue;
    const float* state = products.h();
    for (int r = 0; r < segment.rows; ++r) {
      float* to = all + (size_t(segment.order[r]) * problem.steps + t) * H;
      for (int j = 0; j < H; j += W, state += W) store_any(to + j, load(state));
    }
  }
  products.finish(h);
  LSTM_DONE();
}

size_t gradient_size(const Problem& problem) {
  return 4 * size_t(problem.units) * (problem.units + extra_columns(problem.features));
}

size_t backward_scratch(const Problem& problem, int rows) {
  return gathered_size(problem, rows) + round_up(size_t(rows) * problem.units, 16) + Chunk::size(problem, rows);
}

void backward(const Problem& problem, const Segment& segment, const float* packed, const Kept& kept, const Kept& before,
              const Upstream& upstream, float* dh, float* dc, float* sums, float* dx, float* scratch) {
  const int H = problem.units, F = problem.features, rows = segment.rows;
  float* x = scratch;
  float* tanh_c = x + gathered_size(problem, rows);
  Chunk chunk(problem, rows, packed, tanh_c + round_up(size_t(rows) * H, 16));
  const float* now = kept.base + (segment.end - 1 - kept.first) * kept.step_stride;
  const float* const given = before.given;
  for (int r = 0; r < rows; ++r)
    for (int p = 0; p < H / W; ++p)
      store(tanh_c + r * H + p * W, tanh(load(now + r * kept.row_stride + p * kKept * W + 4 * W)));

  for (int t = segment.end - 1; t >= segment.begin; --t) {
    const bool first = t == segment.begin;
    const float* previous = first ? before.base : now - kept.step_stride;
    const size_t previous_stride = first ? before.row_stride : kept.row_stride;
    const float* ahead = t - segment.begin < 2 ? now : now - 2 * kept.step_stride;  // to be fetched from memory
    gather(problem, segment, t, x);
    for (int r = 0; r < rows; ++r) {
      float* left = chunk.left(r);
      V pixel_gradient = set(0);
      for (int p = 0; p < H / W; ++p) {
        const float* at = now + r * kept.row_stride + p * kKept * W;
        const float* earlier = previous + r * previous_stride + p * kKept * W;
        const int unit = r * H + p * W;
        const float* own = first && given ? given + size_t(segment.order[r]) * 2 * H + p * W : nullptr;  // h, then c
        for (int line = 0; line < kKept * W; line += 16)
          __builtin_prefetch(ahead + r * kept.row_stride + p * kKept * W + line);
        V i = load(at), f = load(at + W), g = load(at + 2 * W), o = load(at + 3 * W);
        V c = own ? load_any(own + H) : load(earlier + 4 * W);
        V tc = load(tanh_c + unit), dh_now = load(dh + unit);
        if (upstream.base) {
          const size_t row = segment.order[r] * upstream.row_stride;
          dh_now += load_any(upstream.base + row + size_t(t) * H + p * W);
        }
        V dc_now = fma(dh_now * o, fnma(tc, tc, set(1)), load(dc + unit));
        V dz[4] = {dc_now * g * (i * (set(1) - i)), dc_now * c * (f * (set(1) - f)), dc_now * i * fnma(g, g, set(1)),
                   dh_now * tc * (o * (set(1) - o))};
        store(dc + unit, dc_now * f);
        tc = tanh(c);
        store(tanh_c + unit, tc);
        store(left + p * W, own ? load_any(own) : load(earlier + 3 * W) * tc);  // h of the step before
        chunk.put(r, p, dz);
        if (dx && F == 1) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate)
          pixel_gradient = fma(load(packed + p * kPanel + gate * W), dz[gate], pixel_gradient);
      }
      chunk.put_features(left + H, x + r * row_of_features(F));
      if (dx && F == 1) dx[size_t(segment.order[r]) * problem.steps + t] = sum(pixel_gradient);
    }
    if (dx && F > 1) {
      chunk.multiply_features();
      for (int r = 0; r < rows; ++r) {
        const float* gradient = chunk.feature_gradients(r);
        std::copy(gradient, gradient + F, dx + (size_t(segment.order[r]) * problem.steps + t) * F);
      }
    }
    chunk.step(dh);
    if (chunk.full() || first) chunk.accumulate(sums);
    now = previous;
  }
  LSTM_DONE();
}

void unpack(const Problem& problem, const float* sums, float* dw, float* du, float* db) {
  const int H = problem.units, F = problem.features;
  const auto add = [&](const float* from, float* to) {  // a row of a panel
    for (int gate = 0; gate < 4; ++gate)
      for (int lane = 0; lane < W; ++lane) to[gate * H + lane] += from[gate * W + lane];
  };
  for (int p = 0; p < H / W; ++p, sums += size_t(H + extra_columns(F)) * kPanel) {
    for (int k = 0; k < H; ++k) add(sums + k * kPanel, du + size_t(k) * 4 * H + p * W);
    const float* features = sums + H * kPanel;
    for (int f = 0; f < F; ++f) {
      alignas(64) float whole[kPanel];
      for (int i = 0; i < kPanel; ++i)
        whole[i] = features[f * kPanel + i] + (LSTM_AMX ? features[(F + 1 + f) * kPanel + i] : 0);
      add(whole, dw + size_t(f) * 4 * H + p * W);
    }
    add(features + F * kPanel, db + p * W);
  }
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {packed_size,      pack,          forward_scratch, forward,
                         backward_scratch, gradient_size, backward,        unpack};

}  // namespace LSTM_ISA

#undef LSTM_DONE
