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
constexpr int kExtra = 16;  // columns beside the units' in the left operand of weight gradients: x, 1, rest of x, zeros

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#include "lstm_vectors.h"

// 2^f - 1 for |f| <= 1/2. Minimax polynomial by Remez's exchange on (2^f - 1) / f: relative error below 1.1e-8.
LSTM_INLINE V exp2_minus_1(V f) {
  V p = set(1.54035126187e-4f);
  p = fma(p, f, set(1.33907354754e-3f));
  p = fma(p, f, set(9.61823749418e-3f));
  p = fma(p, f, set(5.55035743365e-2f));
  p = fma(p, f, set(2.40226497950e-1f));
  p = fma(p, f, set(6.93147187927e-1f));
  return p * f;
}

constexpr float kLog2E = 1.44269504f;

LSTM_INLINE V sigmoid(V x) {  // s = e / (1 + e), e = 2^t, t = -|x| log2 e; that, or for positive x 1 - s, rounded once
  V t = magnitude(x, 87.0f);
  V n = nearest(t * set(-kLog2E));
  V p = exp2_minus_1(fma(t, set(-kLog2E), set(0) - n));
  V e = scale(set(1) + p, n);
  return mirror(x, e * reciprocal(set(1) + e));
}

LSTM_INLINE V tanh(V x) {  // m / (m + 2), m = e^2x - 1: exact in relative terms near 0 too
  x = clamp(x, 9.02f);     // where tanh is 1 in float
  V n = nearest(x * set(2 * kLog2E));
  V p = exp2_minus_1(fma(x, set(2 * kLog2E), set(0) - n));
  V s = scale(set(1), n);
  V m = fma(s, p, s - set(1));
  return m * reciprocal(m + set(2));
}

// The pixel of every row of a segment at a step. Infinity becomes NaN, so that it cannot vanish in a saturated gate.
inline void gather(const Problem& problem, const Segment& segment, int t, float* x) {
  for (int r = 0; r < segment.rows; ++r) {
    float v = problem.x[size_t(segment.order[r]) * problem.steps + t];
    x[r] = v + 0 * v;
  }
}

// One row's next states of a panel's units, from z; kept: null, or where the backward pass will look for them.
LSTM_INLINE void cell(const V (&z)[4], float* h, float* c, float* kept) {
  V i = sigmoid(z[0]), f = sigmoid(z[1]), g = tanh(z[2]), o = sigmoid(z[3]);
  V next = fma(f, load(c), i * g);
  store(c, next);
  store(h, o * tanh(next));
  if (kept) {
    stream(kept, i), stream(kept + W, f), stream(kept + 2 * W, g), stream(kept + 3 * W, o), stream(kept + 4 * W, next);
  }
}

// ---- products ----
//
// Packed weights begin with w and b in panels, 4 H floats each. The rest, and what is below, differs between tiles and
// vectors:
//     pack_recurrent   u, or its transpose for the backward pass, behind where u would be; recurrent_size() floats
//     Forward          z = w x + b + u h for all rows, panel by panel
//     Chunk            the gates' gradients of some steps: dh = dz u^T for one step, du = h^T dz for all of them

#if LSTM_AMX
#include "lstm_amx.h"
#define LSTM_DONE TILE_RELEASE
#else
#include "lstm_fma.h"
#define LSTM_DONE()
#endif

size_t packed_size(int H) { return 8 * size_t(H) + recurrent_size(H); }

void pack(int H, const float* w, const float* u, const float* b, bool backward, float* packed) {
  for (int p = 0; p < H / W; ++p)
    for (int gate = 0; gate < 4; ++gate)
      for (int lane = 0; lane < W; ++lane) {
        packed[p * kPanel + gate * W + lane] = w[gate * H + p * W + lane];
        packed[4 * H + p * kPanel + gate * W + lane] = b[gate * H + p * W + lane];
      }
  pack_recurrent(H, u, backward, packed + 8 * H);
}

// ---- the two passes ----

size_t forward_scratch(int H, int rows) { return round_up(rows, 16) + Forward::size(H, rows); }

void forward(const Problem& problem, const Segment& segment, const float* packed, float* h, float* c, float* kept,
             float* scratch) {
  const int H = problem.units;
  float* x = scratch;
  Forward products(H, segment.rows, packed, h, scratch + round_up(segment.rows, 16));
  for (int t = segment.begin; t < segment.end; ++t) {
    gather(problem, segment, t, x);
    products.step(x, c, kept);
    if (kept) kept += size_t(segment.rows) * H * kKept;
  }
  products.finish(h);
  LSTM_DONE();
}

size_t gradient_size(int H) { return 4 * size_t(H) * (H + kExtra); }

size_t backward_scratch(int H, int rows) {
  return round_up(rows, 16) + round_up(size_t(rows) * H, 16) + Chunk::size(H, rows);
}

void backward(const Problem& problem, const Segment& segment, const float* packed, const Kept& kept, const Kept& before,
              float* dh, float* dc, float* sums, float* dx, float* scratch) {
  const int H = problem.units, rows = segment.rows;
  float* x = scratch;
  float* tanh_c = x + round_up(rows, 16);
  Chunk chunk(H, rows, packed, tanh_c + round_up(size_t(rows) * H, 16));
  const float* now = kept.base + (segment.end - 1 - kept.first) * kept.step_stride;
  for (int r = 0; r < rows; ++r)
    for (int p = 0; p < H / W; ++p)
      store(tanh_c + r * H + p * W, tanh(load(now + r * kept.row_stride + p * kKept * W + 4 * W)));

  for (int t = segment.end - 1; t >= segment.begin; --t) {
    const bool first = t == segment.begin;
    const float* previous = first ? before.base : now - kept.step_stride;
    const size_t previous_stride = first ? before.row_stride : kept.row_stride;
    gather(problem, segment, t, x);
    for (int r = 0; r < rows; ++r) {
      float* left = chunk.left(r);
      V pixel_gradient = set(0);
      for (int p = 0; p < H / W; ++p) {
        const float* at = now + r * kept.row_stride + p * kKept * W;
        const float* earlier = previous + r * previous_stride + p * kKept * W;
        const int unit = r * H + p * W;
        V i = load(at), f = load(at + W), g = load(at + 2 * W), o = load(at + 3 * W), c = load(earlier + 4 * W);
        V tc = load(tanh_c + unit), dh_now = load(dh + unit);
        V dc_now = fma(dh_now * o, fnma(tc, tc, set(1)), load(dc + unit));
        V dz[4] = {dc_now * g * (i * (set(1) - i)), dc_now * c * (f * (set(1) - f)), dc_now * i * fnma(g, g, set(1)),
                   dh_now * tc * (o * (set(1) - o))};
        store(dc + unit, dc_now * f);
        tc = tanh(c);
        store(tanh_c + unit, tc);
        store(left + p * W, load(earlier + 3 * W) * tc);  // h of the step before
        chunk.put(r, p, dz);
        if (dx) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate)
          pixel_gradient = fma(load(packed + p * kPanel + gate * W), dz[gate], pixel_gradient);
      }
      chunk.put_pixel(left + H, x[r]);
      if (dx) dx[size_t(segment.order[r]) * problem.steps + t] = sum(pixel_gradient);
    }
    chunk.step(dh);
    if (chunk.full() || first) chunk.accumulate(sums);
    now = previous;
  }
  LSTM_DONE();
}

void unpack(int H, const float* sums, float* dw, float* du, float* db) {
  for (int p = 0; p < H / W; ++p, sums += size_t(H + kExtra) * kPanel)
    for (int gate = 0; gate < 4; ++gate)
      for (int lane = 0; lane < W; ++lane) {
        const float* from = sums + gate * W + lane;
        const int to = gate * H + p * W + lane;
        for (int k = 0; k < H; ++k) du[size_t(k) * 4 * H + to] += from[k * kPanel];
        dw[to] += from[H * kPanel] + from[(H + 2) * kPanel];
        db[to] += from[(H + 1) * kPanel];
      }
}

#if LSTM_AMX

double spin(int rounds) {
  configure(16);
  for (int i = 0; i < rounds; ++i) {
    TILE_PRODUCT(0, 4, 6);
    TILE_PRODUCT(1, 4, 7);
    TILE_PRODUCT(2, 5, 6);
    TILE_PRODUCT(3, 5, 7);
  }
  TILE_RELEASE();
  return 4.0 * 2 * 16 * 16 * 32 * rounds;
}

#else

double spin(int rounds) {
  V sums[12];
  V a = set(1e-3f), b = set(0.5f);
  LSTM_UNROLL
  for (int j = 0; j < 12; ++j) sums[j] = set(j);
  for (int i = 0; i < rounds; ++i) {
    LSTM_UNROLL
    for (int j = 0; j < 12; ++j) sums[j] = fma(sums[j], b, a);
    asm volatile("" : LSTM_IN_OUT(a), LSTM_IN_OUT(b));
  }
  LSTM_UNROLL
  for (int j = 0; j < 12; ++j) asm volatile("" : LSTM_IN_OUT(sums[j]));
  return 12.0 * 2 * W * rounds;
}

#endif

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {packed_size,   pack,     forward_scratch, forward, backward_scratch,
                         gradient_size, backward, unpack,          spin};

}  // namespace LSTM_ISA

#undef LSTM_DONE
